package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// Paths that members of our kind alone serve.
const (
	pathChain = "/ashlar/chain"
	pathState = "/ashlar/state"
)

// stateStall is how long a state on its way may make no progress.
const stateStall = 30 * time.Second

// errStateStalled is why a state ends of which nothing came for stateStall.
var errStateStalled = errors.New("the state makes no progress")

// Point is a chained hash after an entry.
type Point struct {
	Index uint64 `json:"index"`
	// Base is the index behind which the chain began.
	Base uint64 `json:"base"`
	Hash uint64 `json:"hash"`
}

// Chain is what a member tells of its chained hash.
type Chain struct {
	// Version says what the hash covers. Hashes of different versions say nothing about each other.
	Version uint64 `json:"version"`
	// Point is the one asked for, or the newest when that is not reached yet; nil when it is not remembered any more.
	Point *Point `json:"point,omitempty"`
	// Ended is the end of the epoch before the present one, if there was one.
	Ended *Point `json:"ended,omitempty"`
}

// chain answers with the chained hash after the entry asked for.
func (a *api) chain(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodGet) || !a.admit(w, req) {
		return
	}
	index, err := strconv.ParseUint(req.URL.Query().Get("index"), 10, 64)
	if err != nil {
		http.Error(w, "the index is no number", http.StatusBadRequest)
		return
	}
	b, err := json.Marshal(a.t.answers.Chain(index))
	reply(w, "application/json", b, err)
}

// state sends this member's state. Only members may ask: those of another cluster, and who does not say, are refused.
func (a *api) state(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodGet) || !a.admit(w, req) {
		return
	}
	if req.Header.Get(headerCluster) == "" {
		http.Error(w, ErrClusterMismatch.Error(), http.StatusPreconditionFailed)
		return
	}
	state, err := a.t.answers.State()
	if err != nil {
		refuse(w, err, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", typeState)
	err = copyState(w, state, a.t.cfg.Clock)
	if err = errors.Join(err, state.Close()); err != nil {
		a.t.cfg.Logger.Warn("cannot send the state", "error", err)
		panic(http.ErrAbortHandler) // or what is missing would look like the end
	}
}

// copyState sends a state piece by piece, each within stateStall.
func copyState(w http.ResponseWriter, state io.Reader, c clock.Clock) error {
	control := http.NewResponseController(w)
	buf := make([]byte, 256<<10)
	for {
		n, err := state.Read(buf)
		if n > 0 {
			if err := control.SetWriteDeadline(c.Now().Add(stateStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Chain asks another member for its chained hash after an entry. A member of etcd answers with a *Refusal of status 404.
func (c *Client) Chain(ctx context.Context, urls []string, index uint64) (h Chain, err error) {
	b, _, err := c.ask(ctx, urls, question{method: http.MethodGet, path: pathChain + "?index=" + strconv.FormatUint(index, 10)})
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

// State asks another member for its state, the stream of package snapshot. A pause of stateStall by clk ends it. The caller
// closes it.
func (c *Client) State(ctx context.Context, urls []string, clk clock.Clock) (io.ReadCloser, error) {
	var errs []error
	for _, base := range urls {
		s, err := c.stateOf(ctx, base, clk)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errNoAddress)...)
}

func (c *Client) stateOf(ctx context.Context, base string, clk clock.Clock) (_ io.ReadCloser, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &comingState{ctx: ctx, cancel: cancel}
	s.stall = clk.AfterFunc(stateStall, func() { cancel(errStateStalled) })
	defer func() {
		if err != nil {
			s.stall.Stop()
			err = because(ctx, err)
			cancel(nil)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+pathState, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(headerCluster, hex(c.Cluster))
	resp, err := c.HTTP.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		err := &Refusal{resp.StatusCode, bodyText(resp)}
		return nil, errors.Join(err, resp.Body.Close())
	}
	s.body = resp.Body
	return s, nil
}

// comingState is a state that another member sends.
type comingState struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  clock.Timer
	body   io.ReadCloser
}

func (s *comingState) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if n > 0 {
		s.stall.Reset(stateStall)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = because(s.ctx, err)
	}
	return n, err
}

func (s *comingState) Close() error {
	s.stall.Stop()
	s.cancel(nil)
	return s.body.Close()
}
