package peer

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
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
	_, raw := openConn(t)
	for name, c := range map[string]struct {
		writer *streamWriter
		want   bool
	}{
		"nothing is wrong":            {&streamWriter{line: &line{raw: raw}}, true},
		"a write failed":              {&streamWriter{line: &line{raw: raw, broken: true}}, false},
		"the rest was not accepted":   {&streamWriter{line: &line{raw: raw, left: []byte("rest")}}, false},
		"a message cannot be encoded": {&streamWriter{line: &line{raw: raw}, err: io.ErrShortBuffer}, false},
		"the connection is encrypted": {&streamWriter{line: &line{}}, false},
		"the connection is not known": {&streamWriter{}, false},
	} {
		if got := c.writer.direct(&raftpb.Message{}, 1); got != c.want {
			t.Errorf("%s: a sender may write: %v, want %v", name, got, c.want)
		}
	}
}

// openConn returns a connection to nobody in particular, and its descriptor.
func openConn(t *testing.T) (net.Conn, syscall.RawConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return c, raw
}

// TestOnlyAPlainConnectionIsWrittenByWhoSends: to no other a part of what is sent can be written.
func TestOnlyAPlainConnectionIsWrittenByWhoSends(t *testing.T) {
	t.Parallel()
	plain, _ := openConn(t)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for name, c := range map[string]struct {
		conn         net.Conn
		tls          *tls.ConnectionState
		major, minor int
		line, direct bool
	}{
		"in the clear":                {plain, nil, 1, 1, true, canAttempt},
		"encrypted":                   {tls.Server(near, nil), &tls.ConnectionState{}, 1, 1, true, false},
		"encrypted by somebody below": {plain, &tls.ConnectionState{}, 1, 1, true, false},
		"without a descriptor":        {near, nil, 1, 1, true, false},
		"of HTTP/2":                   {plain, nil, 2, 0, false, false},
		"of HTTP/1.0, without chunks": {plain, nil, 1, 0, false, false},
		"not known":                   {nil, nil, 1, 1, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodGet, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.TLS, req.ProtoMajor, req.ProtoMinor = c.tls, c.major, c.minor
			if c.conn != nil {
				var tr Transport
				req = req.WithContext(tr.ConnContext(req.Context(), c.conn))
			}
			l := lineOf(req)
			if (l != nil) != c.line {
				t.Fatalf("it has a line: %v, want %v", l != nil, c.line)
			}
			if got := (&streamWriter{line: l}).direct(&raftpb.Message{}, 1); got != c.direct {
				t.Errorf("a sender may write: %v, want %v", got, c.direct)
			}
		})
	}
}

// TestAnEncryptedPieceIsOneRecord: the HTTP server would write its head, what fits into a buffer, and the rest.
func TestAnEncryptedPieceIsOneRecord(t *testing.T) {
	t.Parallel()
	const size, warm = 7 << 10, 60 // records are small until some 128 KiB were sent
	var longest atomic.Int64
	how := written{lines: true, tls: true}
	b := newSiteOf(t, 2, testCluster, how)
	how.wrap = func(l net.Listener) net.Listener { return &measuring{l, &longest} }
	a := newSiteOf(t, 1, testCluster, how)
	join(a, b)
	connected(t, a, b)
	for i := range uint64(warm + 1) {
		if i == warm {
			longest.Store(0)
		}
		m := message(raftpb.MsgApp, a, b, i)
		m.Entries = []*raftpb.Entry{{Term: proto.Uint64(1), Index: proto.Uint64(i + 1), Data: make([]byte, size)}}
		a.Send([]*raftpb.Message{m})
		receive(t, b.stepped, "append")
	}
	if n := longest.Load(); n < size {
		t.Errorf("a piece of more than %d bytes was written in parts, of which the longest has %d", size, n)
	}
}

// measuring notes the longest write to its connections.
type measuring struct {
	net.Listener
	longest *atomic.Int64
}

func (l *measuring) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &measured{c, l.longest}, err
}

type measured struct {
	net.Conn
	longest *atomic.Int64
}

func (c *measured) Write(b []byte) (int, error) {
	for was := c.longest.Load(); int64(len(b)) > was && !c.longest.CompareAndSwap(was, int64(len(b))); was = c.longest.Load() {
	}
	return c.Conn.Write(b)
}
