package h2_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ashlar-kv/ashlar/internal/h2"
)

// measured counts what is written to its connections.
type measured struct {
	net.Listener
	overlay bool // its connections are h2.Overlay
	bytes   atomic.Int64
}

type measuredConn struct {
	net.Conn
	bytes *atomic.Int64
}

type overlaid struct{ measuredConn }

func (l *measured) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := measuredConn{conn, &l.bytes}
	if l.overlay {
		return overlaid{c}, nil
	}
	return c, nil
}

func (c measuredConn) Write(b []byte) (int, error) {
	c.bytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

func (c overlaid) WritesTo() net.Conn { return c.Conn }

var _ h2.Overlay = overlaid{}

// TestLargePiecesAreNotCopiedToWhatIsWritten: they pass by the connections that lie over one which takes several buffers at once.
func TestLargePiecesAreNotCopiedToWhatIsWritten(t *testing.T) {
	t.Parallel()
	const length = 3_152_700 // no last piece is so short that it is not pooled
	for name, c := range map[string]struct {
		network, address string
		overlay          bool
		piece            int
		copied           bool
	}{
		"over TCP":                          {"tcp", "127.0.0.1:0", true, 256 << 10, false},
		"over a unix socket":                {"unix", "", true, 256 << 10, false},
		"of a size that no frame ends with": {"tcp", "127.0.0.1:0", true, 50_001, false},
		"small pieces":                      {"tcp", "127.0.0.1:0", true, 1500, true},
		"who changes what is written":       {"tcp", "127.0.0.1:0", false, 256 << 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.network == "unix" {
				c.address = filepath.Join(t.TempDir(), "s")
			}
			lis, err := net.Listen(c.network, c.address)
			if err != nil {
				t.Fatal(err)
			}
			all := &measured{Listener: lis, overlay: c.overlay}
			want := pattern(length)
			p := inPieces(want, c.piece)
			l := startOn(t, kind{"h2", ours}, all, options{unaryInterceptor: answer(func(context.Context) any { return p })})
			if o := call(t, l.dial(t), "Unary", nil); o.status.Code() != codes.OK || !bytes.Equal(o.body, want) {
				t.Errorf("%d bytes, or others, %v", len(o.body), o)
			}
			if n := all.bytes.Load(); c.copied != (n > length/2) {
				t.Errorf("%d bytes of %d were written one buffer at a time", n, length)
			}
			p.whole(t)
		})
	}
}

// TestPiecesComeBackFromAWriteThatFails: the client goes away while they are written.
func TestPiecesComeBackFromAWriteThatFails(t *testing.T) {
	t.Parallel()
	p := inPieces(pattern(64<<20), 64<<10) // more than the sockets hold
	l := answering(t, func(context.Context) any { return p })
	w := l.plug(t)
	w.widen()
	w.message(w.call("Unary"), nil, true)
	before := int64(0)
	eventually(t, "it is always made on, though nobody reads it", func() bool {
		made := p.made.Load()
		stands := made > 0 && made == before
		before = made
		return stands
	})
	_ = w.conn.Close()
	if err := receive(t, "the end of it", p.done); err == nil {
		t.Error("all of it was made")
	}
	p.whole(t)
}
