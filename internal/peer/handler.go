package peer

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// receiveTimeout is how long a sender may be silent in the midst of what it sends.
const receiveTimeout = 30 * time.Second

// Handler serves what other members ask of this one. REQUIRES: Start has returned.
func (t *Transport) Handler() http.Handler {
	mux := http.NewServeMux()
	for k := range streamKinds {
		mux.HandleFunc(k.path(), func(w http.ResponseWriter, req *http.Request) { t.serveStream(w, req, k) })
	}
	mux.HandleFunc("/raft/stream/", t.serveNoStream)
	mux.HandleFunc("/raft", t.servePost)
	mux.HandleFunc("/raft/snapshot", t.serveSnapshot)
	mux.HandleFunc("/raft/probing", t.serveProbing)
	a := &api{t: t}
	mux.HandleFunc(pathMembers, a.members)
	mux.HandleFunc("/members/promote/", a.promote)
	mux.HandleFunc("/members/hashkv", a.hashKV)
	mux.HandleFunc(pathChain, a.chain)
	mux.HandleFunc(pathState, a.state)
	mux.HandleFunc("/version", a.version)
	mux.HandleFunc("/leases", a.renewLease)
	mux.HandleFunc("/leases/internal", a.timeToLive)
	mux.HandleFunc("/downgrade/enabled", a.downgrade)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set(headerAshlar, version.Ashlar)
		if req.Body != http.NoBody {
			body := &timedBody{ReadCloser: req.Body, clock: t.cfg.Clock, rc: http.NewResponseController(w)}
			_ = body.put(receiveTimeout) // the HTTP server reads what nobody else does; where there are no limits there is none
			req.Body = body
		}
		mux.ServeHTTP(w, req)
	})
}

// allow refuses every method but one.
func allow(w http.ResponseWriter, req *http.Request, method string) bool {
	if req.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// admit refuses senders that do not belong to this cluster.
func (t *Transport) admit(w http.ResponseWriter, req *http.Request) bool {
	w.Header().Set(headerCluster, hex(t.id.Cluster))
	if err := t.id.check(req.Header); err != nil {
		http.Error(w, err.Error(), http.StatusPreconditionFailed)
		return false
	}
	return true
}

func (t *Transport) serveNoStream(w http.ResponseWriter, req *http.Request) {
	if allow(w, req, http.MethodGet) && t.admit(w, req) {
		http.Error(w, "invalid path", http.StatusNotFound)
	}
}

// serveStream opens a stream to the sender and writes into it until it breaks or is opened anew.
func (t *Transport) serveStream(w http.ResponseWriter, req *http.Request, k streamKind) {
	if !allow(w, req, http.MethodGet) {
		return
	}
	w.Header().Set(headerVersion, version.Etcd)
	if !t.admit(w, req) {
		return
	}
	from, err := parseHex(strings.TrimPrefix(req.URL.Path, k.path()))
	if err != nil {
		http.Error(w, "invalid from", http.StatusNotFound)
		return
	}
	if t.isRemoved(from) {
		http.Error(w, "removed member", http.StatusGone)
		return
	}
	r := (*t.remotes.Load())[from]
	if r == nil {
		// The sender may be in the cluster although this member has not heard of it yet: it will ask again.
		t.meet(from, peerURLs(req.Header))
		http.Error(w, "error sender not found", http.StatusNotFound)
		return
	}
	if req.Header.Get(headerTo) != hex(t.id.Member) {
		refuseMismatch(w)
		return
	}
	w.WriteHeader(http.StatusOK)
	r.write(req, k, w)
}

// admitPost refuses posts that do not come from a member of this cluster, and makes the sender known if it is not.
func (t *Transport) admitPost(w http.ResponseWriter, req *http.Request) bool {
	if !allow(w, req, http.MethodPost) || !t.admit(w, req) {
		return false
	}
	from, err := parseHex(req.Header.Get(headerFrom))
	if err != nil {
		return true // what it sends says from whom it is
	}
	if t.isRemoved(from) {
		t.refuseRemoved(w)
		return false
	}
	if (*t.remotes.Load())[from] == nil {
		t.meet(from, peerURLs(req.Header))
	}
	return true
}

func (t *Transport) refuseRemoved(w http.ResponseWriter) {
	http.Error(w, "removed member", http.StatusForbidden)
}

// refuseMismatch tells the sender that it has found another member than the one it wanted.
func refuseMismatch(w http.ResponseWriter) {
	http.Error(w, "to field mismatch", http.StatusPreconditionFailed)
}

// servePost takes one message.
func (t *Transport) servePost(w http.ResponseWriter, req *http.Request) {
	if !t.admitPost(w, req) {
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, messageBytesMax))
	if err != nil {
		http.Error(w, "error reading raft message", http.StatusBadRequest)
		return
	}
	t.received(req).Received.Add(uint64(len(data)))
	m := &raftpb.Message{}
	if err := proto.Unmarshal(data, m); err != nil {
		http.Error(w, "error unmarshalling raft message", http.StatusBadRequest)
		return
	}
	if t.isRemoved(m.GetFrom()) {
		t.refuseRemoved(w)
		return
	}
	t.receive(m)
	w.WriteHeader(http.StatusNoContent)
}

// serveSnapshot takes a snapshot: its message and its state.
func (t *Transport) serveSnapshot(w http.ResponseWriter, req *http.Request) {
	if !t.admitPost(w, req) {
		return
	}
	measures := t.received(req)
	body := &sizedReader{r: countingReader{req.Body, &measures.Received}}
	m, err := (&frames{r: body}).message()
	if err != nil {
		http.Error(w, "failed to decode raft message ("+err.Error()+")", http.StatusBadRequest)
		return
	}
	if m.GetType() != raftpb.MsgSnap || m.GetSnapshot().GetMetadata().GetIndex() == 0 {
		http.Error(w, "wrong raft message type", http.StatusBadRequest)
		return
	}
	if t.isRemoved(m.GetFrom()) {
		t.refuseRemoved(w)
		return
	}
	if m.GetTo() != t.id.Member { // the other one was here, or somebody else has its address now
		refuseMismatch(w)
		return
	}
	log := t.cfg.Logger.With("remote", hex(m.GetFrom()), "index", m.GetSnapshot().GetMetadata().GetIndex())
	begin := t.cfg.Clock.Now()
	receive := t.answers.ReceiveDatabase
	if req.Header.Get("Content-Type") == typeState {
		receive = t.answers.ReceiveSnapshot
	}
	err = measures.SnapshotsReceived.run(t.cfg.Clock.Now, func() error { return receive(m, body) })
	if err != nil {
		log.Warn("cannot receive a snapshot", "error", err)
		http.Error(w, "failed to process the snapshot ("+err.Error()+")", http.StatusInternalServerError)
		return
	}
	log.Info("received a snapshot", "took", t.cfg.Clock.Now().Sub(begin), "bytes", body.n)
	w.WriteHeader(http.StatusNoContent)
}

// serveProbing answers so that the asker can measure the way and compare the clocks.
func (t *Transport) serveProbing(w http.ResponseWriter, _ *http.Request) {
	now := t.cfg.Clock.Now().UTC().Format(time.RFC3339Nano)
	_, _ = io.WriteString(w, `{"OK":true,"Now":"`+now+`"}`+"\n") // whoever is gone needs no answer
}

// sizedReader counts the bytes of a snapshot.
type sizedReader struct {
	r io.Reader
	n int64
}

func (r *sizedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	return n, err
}

// timedBody bounds how long each read of a body may take. Once it has ended there is no limit: the HTTP server goes on reading, and would
// take it for the end of the sender, while the request is at work.
type timedBody struct {
	io.ReadCloser
	clock clock.Clock
	rc    *http.ResponseController
}

// put puts the limit of reads off.
func (b *timedBody) put(off time.Duration) error {
	if err := b.rc.SetReadDeadline(b.clock.Now().Add(off)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (b *timedBody) Read(p []byte) (int, error) {
	if err := b.put(receiveTimeout); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.rc.SetReadDeadline(time.Time{}) // the worst is that the limit stays
	}
	return n, err
}
