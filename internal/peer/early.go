package peer

import (
	"context"
	"errors"
	"net/http"
	"sync"
)

const (
	// headerOpening is on the answer of a member that has data and is being opened.
	headerOpening = "X-Ashlar-Opening"
	// earlyMax is how many requests may wait for a member that is being opened.
	earlyMax = 1024
)

// ErrOpening is in the error of Client.Members when the member that was asked has data and is being opened: it will know more.
var ErrOpening = errors.New("the member is being opened")

// Early is the handler of a member's listeners from when they are bound. Until Open it answers one question, which members of a new cluster
// ask each other, and one whose data were lost asks all: who is in the cluster. A member that has no data knows nothing of it, and says so at
// once, or those that are started together would wait for each other. One that has says that it is being opened, to members that know to
// ask again; etcd's would take that for nobody, so they wait, as all other requests do, up to 1,024 of them: more are refused.
type Early struct {
	ran     bool
	handler http.Handler // set before opened is closed
	opened  chan struct{}
	ended   chan struct{}
	end     sync.Once
	waiting chan struct{} // an element for each request that waits
}

// NewEarly returns one for a member that ran before, or did not.
func NewEarly(ran bool) *Early {
	return &Early{ran: ran, opened: make(chan struct{}), ended: make(chan struct{}), waiting: make(chan struct{}, earlyMax)}
}

// Open has all requests answered by h, also those that wait. It is to be called once at most.
func (e *Early) Open(h http.Handler) {
	e.handler = h
	close(e.opened)
}

// End refuses what waits if it is not open yet: the member ends.
func (e *Early) End() { e.end.Do(func() { close(e.ended) }) }

// ServeHTTP implements http.Handler.
func (e *Early) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case <-e.opened:
		e.handler.ServeHTTP(w, req)
		return
	default:
	}
	if req.URL.Path == pathMembers && (!e.ran || req.Header.Get(headerAshlar) != "") {
		text := "this member is in no cluster yet"
		if e.ran {
			w.Header().Set(headerOpening, "true")
			text = "ask again"
		}
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	select {
	case e.waiting <- struct{}{}:
	default:
		http.Error(w, "too many requests wait for this member to be opened", http.StatusServiceUnavailable)
		return
	}
	opened := e.wait(req.Context())
	<-e.waiting
	if !opened {
		http.Error(w, "this member ends", http.StatusServiceUnavailable)
		return
	}
	e.handler.ServeHTTP(w, req)
}

// wait waits for Open, and tells whether it came.
func (e *Early) wait(ctx context.Context) bool {
	select {
	case <-e.opened:
		return true
	case <-e.ended:
	case <-ctx.Done():
	}
	return false
}
