package h2_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
)

// heap is what the process has in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// floods are what a client may send without end and without reading the answers.
var floods = map[string]func(w *wire, i int) error{
	"settings": func(w *wire, i int) error {
		return w.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i) % 1000})
	},
	"pings":          func(w *wire, i int) error { return w.fr.WritePing(false, [8]byte{byte(i)}) },
	"pings answered": func(w *wire, i int) error { return w.fr.WritePing(true, [8]byte{byte(i)}) },
	"empty DATA": func(w *wire, i int) error {
		if i == 0 {
			return w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.encode(pairs("Bidi")), EndHeaders: true})
		}
		return w.fr.WriteData(1, false, nil)
	},
	"empty messages": func(w *wire, i int) error {
		if i == 0 {
			return w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.encode(pairs("Bidi")), EndHeaders: true})
		}
		return w.fr.WriteData(1, false, enclosed(nil))
	},
	"priorities": func(w *wire, i int) error {
		return w.fr.WritePriority(uint32(i)*2+1, http2.PriorityParam{StreamDep: 0})
	},
	"unknown frames": func(w *wire, i int) error { return w.fr.WriteRawFrame(0xf0, 0, uint32(i), zeroes(100)) },
	"windows":        func(w *wire, i int) error { return w.fr.WriteWindowUpdate(0, 1) },
	"refused requests": func(w *wire, i int) error {
		return w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(i)*2 + 1, BlockFragment: w.encode([]string{":method", "GET"}), EndHeaders: true, EndStream: true})
	},
	"unknown methods": func(w *wire, i int) error {
		return w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(i)*2 + 1, BlockFragment: w.encode(pairs("Missing")), EndHeaders: true, EndStream: true})
	},
	"calls": func(w *wire, i int) error {
		id := uint32(i)*2 + 1
		if err := w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(pairs("Unary")), EndHeaders: true}); err != nil {
			return err
		}
		return w.fr.WriteData(id, true, enclosed(pattern(100)))
	},
	"calls reset": func(w *wire, i int) error {
		id := uint32(i)*2 + 1
		if err := w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(pairs("Unary")), EndHeaders: true}); err != nil {
			return err
		}
		if err := w.fr.WriteData(id, true, enclosed(pattern(100))); err != nil {
			return err
		}
		return w.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	},
	"calls that the client breaks": func(w *wire, i int) error {
		id := uint32(i)*2 + 1
		if err := w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(pairs("Bidi")), EndHeaders: true}); err != nil {
			return err
		}
		return w.fr.WriteWindowUpdate(id, 0)
	},
}

// narrow is a listener whose connections have hardly a buffer in the kernel.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		err = narrowed(c)
	}
	return c, err
}

func narrowed(c net.Conn) error {
	tcp := c.(*net.TCPConn)
	return errors.Join(tcp.SetReadBuffer(4096), tcp.SetWriteBuffer(4096))
}

// TestFloods sends each to a server that cannot get rid of its answers. It may stop to read, or cut the client off, but not grow.
// It runs before the tests that run at once, as it measures the process. The reference is not held to it.
func TestFloods(t *testing.T) {
	const allowed = 64 << 20
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := startOn(t, kind{"h2", ours}, narrow{lis}, options{maxStreams: 100})
	before := heap()
	var wg sync.WaitGroup
	for name, frame := range floods {
		w := l.plug(t)
		if err := narrowed(w.conn); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			w.hello()
			frames := 5000
			if answeredFloods[name] {
				frames = answeredFrames
			}
			through, sent := flood(w, frames, frame)
			if through && answeredFloods[name] {
				t.Errorf("%s: all of %d frames are taken", name, sent)
			}
		})
	}
	wg.Wait()
	if after := heap(); after > before+allowed {
		t.Errorf("all that costs %d MiB", (after-before)>>20)
	}
	// Others are served as ever.
	if o := call(t, l.dial(t), "Unary", []byte("x")); o.status.Code() != codes.OK {
		t.Error(o)
	}
}

// answeredFrames are more than any client sends within farewellWait, for which a server that parts from it throws away what comes.
const answeredFrames = 20_000_000

// answeredFloods are those whose frames have answers: a server that takes them all keeps the answers.
var answeredFloods = map[string]bool{"settings": true, "pings": true, "refused requests": true,
	"unknown methods": true, "calls": true, "calls that the client breaks": true}

// TestEmptyMessagesThatNobodyTakes: the handler waits for a window to answer in, and then takes no more. What comes beyond the window of the stream ends it,
// and the rest is thrown away as it comes.
func TestEmptyMessagesThatNobodyTakes(t *testing.T) {
	t.Parallel()
	l := start(t, kind{"h2", ours}, options{})
	w := l.plug(t)
	w.hello()
	within(t, "the flood", func() {
		for i := range 150_000 {
			if err := floods["empty messages"](w, i); err != nil {
				t.Error(err)
				return
			}
		}
	})
	w.next = 3
	w.listen()
	w.ended(1)
	if r := w.reply(1); r.reset != "FLOW_CONTROL_ERROR" {
		t.Errorf("the stream ends with %q", r.reset)
	}
	w.grant(0, 1<<20)
	id := w.call("Unary")
	w.message(id, []byte("x"), true)
	w.ended(id)
	if got := w.verdict(); !strings.Contains(got, `3: :status=200 content-type=application/grpc | "x" | grpc-status=0`) {
		t.Error(got)
	}
}

// flood sends frames until all are sent, the server has ended the connection, or it takes no more: nothing goes through for a
// while. It tells whether all went through.
func flood(w *wire, frames int, frame func(w *wire, i int) error) (through bool, sent int) {
	var progress atomic.Int64
	done := make(chan bool, 1)
	go func() {
		for i := range frames {
			if frame(w, i) != nil {
				done <- false
				return
			}
			progress.Add(1)
		}
		done <- true
	}()
	last := int64(-1)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case all := <-done:
			return all, int(progress.Load())
		case <-tick.C:
			now := progress.Load()
			if now == last {
				return false, int(now)
			}
			last = now
		}
	}
}

// TestAnswersThatNobodyReads: the server takes no more requests once a few megabytes of answers wait for a client that reads none.
// The client's windows are wide open, so that it is not they who bound it.
func TestAnswersThatNobodyReads(t *testing.T) {
	const size, calls, allowed = 64 << 10, 2000, 700
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answered atomic.Int64
	body := make([]byte, size)
	l := startOn(t, kind{"h2", ours}, narrow{lis}, options{unary: func(context.Context, []byte) ([]byte, error) {
		answered.Add(1)
		return body, nil
	}})
	w := l.plug(t)
	if err := narrowed(w.conn); err != nil {
		t.Fatal(err)
	}
	w.widen()
	through, sent := flood(w, calls, func(w *wire, i int) error {
		// One after the other, as far as the server goes: nothing is under way that could not be known.
		id := uint32(i)*2 + 1
		if err := w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(pairs("Unary")), EndHeaders: true}); err != nil {
			return err
		}
		if err := w.fr.WriteData(id, true, enclosed(nil)); err != nil {
			return err
		}
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for answered.Load() <= int64(i) {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return t.Context().Err()
			}
		}
		return nil
	})
	if n := answered.Load(); through || n > allowed {
		t.Errorf("%d of %d calls were answered to a client that read nothing, %d sent", n, calls, sent)
	}
}

// TestMessagesThatAreOnlyAnnounced: a prefix that promises megabytes costs no more than what has come of them. Like TestFloods it
// measures the process.
func TestMessagesThatAreOnlyAnnounced(t *testing.T) {
	const streams, each = 500, 16 << 10
	l := start(t, kind{"h2", ours}, options{maxRecv: 2 << 20})
	for _, method := range []string{"Unary", "Bidi"} {
		w := l.wide(t)
		before := heap()
		for range streams {
			w.data(w.call(method), []byte{0, 0, 0x10, 0, 0}, false)
		}
		w.settle()
		if after := heap(); after > before+streams*each {
			t.Errorf("%s: %d streams with a prefix cost %d KiB each", method, streams, (after-before)/streams>>10)
		}
		_ = w.conn.Close()
	}
}
