package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/test/process"
)

// traceLine is one request that kube-apiserver sent, and what etcd answered.
type traceLine struct {
	Seq     int             `json:"seq"`
	Stream  int             `json:"stream"`
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	Reply   *traceReply     `json:"reply"`
}

type traceReply struct {
	Revision  int64 `json:"revision"`
	Succeeded bool  `json:"succeeded"`
	Responses int   `json:"responses"`
	KVs       int   `json:"kvs"`
	Count     int64 `json:"count"`
	More      bool  `json:"more"`
	ID        int64 `json:"id"`
	TTL       int64 `json:"ttl"`
}

// TestKubernetesTrace replays all that kube-apiserver asked of etcd in its first five minutes, watches included: every
// request is answered as etcd answered it, and every watch tells exactly the changes of its range.
func TestKubernetesTrace(t *testing.T) {
	t.Parallel()
	lines := kubernetesTrace(t)
	m := newMember(t)
	m.start(t)
	r := replay{
		t: t, conn: m.connect(t).ActiveConnection(),
		streams: make(map[int]*traceStream),
	}
	for i := range lines {
		if err := r.step(within(t, process.Patience), &lines[i]); err != nil {
			t.Fatalf("line %d, %s: %v", lines[i].Seq, lines[i].Method, err)
		}
	}
	r.checkWatches()
}

// kubernetesTrace reads the recorded requests. The file is shared between repositories; without it the test is skipped, but not
// in CI.
func kubernetesTrace(t *testing.T) []traceLine {
	t.Helper()
	root, err := process.Root()
	noError(t, err)
	file, err := os.Open(filepath.Join(root, "..", "shared", "data", "kubernetes-1.36.trace.jsonl"))
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: the recorded Kubernetes requests are missing, and CI must not pass without them: %v", t.Name(), err)
		}
		t.Skipf("%s SKIPPED: the recorded Kubernetes requests are not there: %v", t.Name(), err)
	}
	noError(t, err)
	defer file.Close()
	var lines []traceLine
	in := bufio.NewScanner(file)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var l traceLine
		noError(t, json.Unmarshal(in.Bytes(), &l))
		lines = append(lines, l)
	}
	noError(t, in.Err())
	inOrder(lines)
	return lines
}

// inOrder puts the lines, which stand in the order in which etcd got them, into the one in which it carried them out, as far as
// the revisions tell: requests that were under way together may have overtaken each other.
func inOrder(lines []traceLine) {
	rank := make(map[int]int64, len(lines))
	var newest int64
	for _, l := range lines {
		if l.Reply != nil {
			newest = max(newest, l.Reply.Revision)
			rank[l.Seq] = 2 * l.Reply.Revision
			if !l.Reply.Succeeded {
				rank[l.Seq]++ // it saw the revision that another one made
			}
		} else {
			rank[l.Seq] = 2*newest + 1
		}
	}
	slices.SortStableFunc(lines, func(a, b traceLine) int { return cmp.Compare(rank[a.Seq], rank[b.Seq]) })
}

// replay sends the lines of a trace, one after another.
type replay struct {
	t       *testing.T
	conn    *grpc.ClientConn
	streams map[int]*traceStream
	changes []traceChange // what the transactions must have done
}

// traceChange is what one operation did.
type traceChange struct {
	revision int64
	key      string
	value    string // of a put
	deleted  bool
}

// traceStream is a watch stream with its one watcher, or none.
type traceStream struct {
	etcdserverpb.Watch_WatchClient
	created *etcdserverpb.WatchCreateRequest
}

func (r *replay) step(ctx context.Context, l *traceLine) error {
	service, method, _ := strings.Cut(strings.TrimPrefix(l.Method, "/"), "/")
	switch service + "/" + method {
	case "etcdserverpb.Watch/Watch":
		return r.watch(l)
	case "etcdserverpb.KV/Range":
		var out etcdserverpb.RangeResponse
		return r.unary(ctx, l, &etcdserverpb.RangeRequest{}, &out, func() traceReply {
			return traceReply{Revision: out.Header.Revision, KVs: len(out.Kvs), Count: out.Count, More: out.More}
		})
	case "etcdserverpb.KV/Txn":
		var out etcdserverpb.TxnResponse
		return r.unary(ctx, l, &etcdserverpb.TxnRequest{}, &out, func() traceReply {
			return traceReply{Revision: out.Header.Revision, Succeeded: out.Succeeded, Responses: len(out.Responses)}
		})
	case "etcdserverpb.KV/Compact":
		var out etcdserverpb.CompactionResponse
		return r.unary(ctx, l, &etcdserverpb.CompactionRequest{}, &out, func() traceReply {
			return traceReply{Revision: out.Header.Revision}
		})
	case "etcdserverpb.Lease/LeaseGrant":
		var out etcdserverpb.LeaseGrantResponse
		return r.unary(ctx, l, &etcdserverpb.LeaseGrantRequest{}, &out, func() traceReply {
			return traceReply{Revision: out.Header.Revision, ID: out.ID, TTL: out.TTL}
		})
	case "etcdserverpb.Maintenance/Status":
		return r.unary(ctx, l, &etcdserverpb.StatusRequest{}, &etcdserverpb.StatusResponse{}, nil)
	default:
		return errors.New("a call that this test does not know")
	}
}

// unary sends a request and compares what the trace tells of the answer; got is nil where it tells nothing.
func (r *replay) unary(ctx context.Context, l *traceLine, in, out proto.Message, got func() traceReply) error {
	if err := l.decode(in); err != nil {
		return err
	}
	if g, ok := in.(*etcdserverpb.LeaseGrantRequest); ok {
		g.ID = l.Reply.ID // later lines name it
	}
	if err := r.conn.Invoke(ctx, l.Method, in, out); err != nil {
		return err
	}
	if got == nil {
		return nil
	}
	g := got()
	if txn, ok := in.(*etcdserverpb.TxnRequest); ok && g.Succeeded {
		r.note(txn.Success, g.Revision)
	}
	if g != *l.Reply {
		return fmt.Errorf("answered %+v, etcd %+v", g, *l.Reply)
	}
	return nil
}

// note notes what the operations of a transaction did.
func (r *replay) note(ops []*etcdserverpb.RequestOp, rev int64) {
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			r.changes = append(r.changes, traceChange{rev, string(p.Key), string(p.Value), false})
		}
		if d := op.GetRequestDeleteRange(); d != nil {
			// kube-apiserver deletes single keys, after it has compared that they are there.
			r.changes = append(r.changes, traceChange{rev, string(d.Key), "", true})
		}
	}
}

// watch sends a message on a watch stream.
func (r *replay) watch(l *traceLine) error {
	var in etcdserverpb.WatchRequest
	if err := l.decode(&in); err != nil {
		return err
	}
	s, ok := r.streams[l.Stream]
	if !ok {
		c, err := etcdserverpb.NewWatchClient(r.conn).Watch(within(r.t, wholeTest))
		if err != nil {
			return err
		}
		s = &traceStream{c, in.GetCreateRequest()}
		r.streams[l.Stream] = s
	}
	return s.Send(&in)
}

// checkWatches reads each stream up to a progress mark of the last revision and compares its events with what the
// transactions did.
func (r *replay) checkWatches() {
	for n, s := range r.streams {
		if s.created == nil {
			continue // the recording began after it
		}
		var want []traceChange
		for _, c := range r.changes {
			if s.wants(c) {
				want = append(want, c)
			}
		}
		got, err := s.read(r.changes[len(r.changes)-1].revision)
		if errors.Is(err, errCompacted) {
			continue
		}
		if err != nil {
			r.t.Fatalf("stream %d: %v", n, err)
		}
		if !slices.Equal(got, want) {
			r.t.Fatalf("stream %d on %q from revision %d: %d events, want %d:\n%.4000s",
				n, s.created.Key, s.created.StartRevision, len(got), len(want), fmt.Sprintf("%+v\nwant\n%+v", got, want))
		}
	}
}

// wants says whether the stream's watcher is to be told of a change.
func (s *traceStream) wants(c traceChange) bool {
	key, end := string(s.created.Key), string(s.created.RangeEnd)
	return c.revision >= s.created.StartRevision && (c.key == key || c.key > key && c.key < end)
}

// errCompacted says that a stream asked for what was compacted before: kube-apiserver then lists again.
var errCompacted = errors.New("the stream's start was compacted")

// read returns the events of a stream up to a revision, which nothing may follow.
func (s *traceStream) read(last int64) ([]traceChange, error) {
	defer s.keepAsking()()
	var got []traceChange
	for {
		in, err := s.Recv()
		switch {
		case err != nil:
			return nil, err
		case in.Canceled && len(got) == 0 && s.created.StartRevision < in.CompactRevision:
			return nil, errCompacted
		case in.Canceled:
			return nil, fmt.Errorf("cancelled: %s, compact revision %d", in.CancelReason, in.CompactRevision)
		}
		for _, e := range in.Events {
			got = append(got, traceChange{
				e.Kv.ModRevision, string(e.Kv.Key), string(e.Kv.Value), e.Type == mvccpb.Event_DELETE,
			})
		}
		if len(in.Events) == 0 && !in.Created && in.Header.Revision >= last {
			return got, nil
		}
	}
}

// keepAsking asks for progress marks until the returned function is called: while a stream is behind, etcd does not answer.
func (s *traceStream) keepAsking() (stop func()) {
	ask := &etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
		ProgressRequest: &etcdserverpb.WatchProgressRequest{},
	}}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		again := time.NewTicker(50 * time.Millisecond)
		defer again.Stop()
		for s.Send(ask) == nil { // the reader is told of an error
			select {
			case <-again.C:
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// decode fills m from the recorded request. A long bytes field stands as "len:N": it becomes N bytes.
func (l *traceLine) decode(m proto.Message) error {
	var v any
	d := json.NewDecoder(bytes.NewReader(l.Request))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err
	}
	b, err := json.Marshal(lengthen(v))
	if err != nil {
		return err
	}
	return protojson.Unmarshal(b, m)
}

func lengthen(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = lengthen(v[k])
		}
	case []any:
		for i := range v {
			v[i] = lengthen(v[i])
		}
	case string:
		if text, ok := strings.CutPrefix(v, "len:"); ok {
			if n, err := strconv.Atoi(text); err == nil {
				return bytes.Repeat([]byte("x"), n) // json makes base64 of it
			}
		}
	}
	return v
}
