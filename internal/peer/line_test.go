package peer

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestWhatTheKernelDoesNotTakeAtOnceComesLater in its order, although the sender waits for nothing, and although small and large
// messages of several senders come on top of it.
func TestWhatTheKernelDoesNotTakeAtOnceComesLater(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	b.stepped = make(chan *raftpb.Message) // b reads a message when the test takes it
	join(a, b)
	connected(t, a, b)
	const n = 3000
	for i := range uint64(n) {
		m := message(raftpb.MsgApp, a, b, i)
		size := 7 << 10
		if i%5 == 4 {
			size = 2 * directBytesMax
		}
		m.Entries = []*raftpb.Entry{{Term: proto.Uint64(1), Index: proto.Uint64(i + 1), Data: make([]byte, size)}}
		a.Send([]*raftpb.Message{m})
	}
	for i := range uint64(n) {
		if m := receive(t, b.stepped, "append"); m.GetIndex() != i || len(m.GetEntries()) != 1 {
			t.Fatalf("append %d: got one after %d", i, m.GetIndex())
		}
	}
}

// TestManySendersShareAStream: each one's messages keep their order and none is lost.
func TestManySendersShareAStream(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	join(a, b)
	connected(t, a, b)
	const senders, each = 4, 500
	var wg sync.WaitGroup
	for s := range uint64(senders) {
		wg.Go(func() {
			for i := range uint64(each) {
				m := message(raftpb.MsgAppResp, a, b, i)
				m.Commit = proto.Uint64(s)
				a.Send([]*raftpb.Message{m})
			}
		})
	}
	wg.Wait()
	var next [senders]uint64
	for range senders * each {
		m := receive(t, b.stepped, "answer")
		if s := m.GetCommit(); m.GetIndex() != next[s] {
			t.Fatalf("sender %d: got %d, want %d", s, m.GetIndex(), next[s])
		}
		next[m.GetCommit()]++
	}
}

// TestAStreamThatEndsWithinAChunkIsCutOff: whatever the HTTP server wrote behind it would be read as part of it.
func TestAStreamThatEndsWithinAChunkIsCutOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		line line
		open bool
	}{
		"whole":                     {line{}, true},
		"a write failed":            {line{broken: true}, false},
		"the rest was not accepted": {line{left: []byte("rest")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			defer near.Close()
			c.line.conn = near
			(&streamWriter{line: &c.line}).end()
			go near.Write([]byte("more")) //nolint:errcheck // the other end says whether it came
			_, err := far.Read(make([]byte, 1))
			if open := err == nil; open != c.open || !open && err != io.EOF {
				t.Errorf("got %v, want it open: %v", err, c.open)
			}
		})
	}
}

// TestNobodyWritesBehindAChunkThatHasNoEnd: what failed to be written is still in the buffer when its writer gives up.
func TestNobodyWritesBehindAChunkThatHasNoEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		writer *streamWriter
		want   bool
	}{
		"nothing is wrong":            {&streamWriter{line: &line{}}, true},
		"a write failed":              {&streamWriter{line: &line{broken: true}}, false},
		"the rest was not accepted":   {&streamWriter{line: &line{left: []byte("rest")}}, false},
		"a message cannot be encoded": {&streamWriter{line: &line{}, err: io.ErrShortBuffer}, false},
		"the connection is no line":   {&streamWriter{}, false},
	} {
		if got := c.writer.direct(&raftpb.Message{}, 1); got != c.want {
			t.Errorf("%s: a sender may write: %v, want %v", name, got, c.want)
		}
	}
}

// TestOnlyAPlainConnectionIsALine of HTTP/1.1 without encryption.
func TestOnlyAPlainConnectionIsALine(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	req, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lineOf(req) != nil {
		t.Error("a request without a connection has a line")
	}
	var tr Transport
	if lineOf(req.WithContext(tr.ConnContext(req.Context(), near))) != nil {
		t.Error("a connection without a descriptor is a line")
	}
}
