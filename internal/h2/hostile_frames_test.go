package h2_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

// Streams that a hostile client finds: echoed is open and has had one message each way, ended has been answered and closed, half
// was ended by the client and its handler waits, fresh has not been opened.
const (
	echoed, ended, half, fresh uint32 = 1, 3, 5, 7
)

// hostile is what a client does to a server, and what becomes of it: "alive" is a connection that serves the next call, "cut" with
// a code is one that ends, and lines of streams are what they got. The reference may close silently where the server says why.
type hostile struct {
	name string
	act  func(w *wire)
	want string
	lax  string // what the reference does instead, where it is laxer than the RFC or the package says that we differ
}

// raw is a frame of any length, kind, flags, stream and payload.
func rawFrame(length int, kind, flags byte, id uint32, payload ...byte) []byte {
	return append([]byte{byte(length >> 16), byte(length >> 8), byte(length), kind, flags, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, payload...)
}

// sends is an act of one frame whose payload is as long as it says.
func sends(kind, flags byte, id uint32, payload ...byte) func(w *wire) {
	return func(w *wire) { w.raw(rawFrame(len(payload), kind, flags, id, payload...)) }
}

func sequence(acts ...func(w *wire)) func(w *wire) {
	return func(w *wire) {
		for _, a := range acts {
			a(w)
		}
	}
}

const (
	protocol  = "cut PROTOCOL_ERROR"
	frameSize = "cut FRAME_SIZE_ERROR"
	flow      = "cut FLOW_CONTROL_ERROR"
	packed    = "cut COMPRESSION_ERROR"
	calm      = "cut ENHANCE_YOUR_CALM"
	alive     = "alive"
)

const (
	flagEnd, flagAck, flagHeadersEnd, flagPadded, flagPriority = 1, 1, 4, 8, 32
	data, headers, priority, reset, settings, push, ping       = 0, 1, 2, 3, 4, 5, 6
	goaway, update, continuation                               = 7, 8, 9
)

func zeroes(n int) []byte { return make([]byte, n) }

// misplaced are frames where they do not belong, and with lengths that they cannot have.
var misplaced = []hostile{
	{"DATA on the connection", sends(data, 0, 0, 'x'), protocol, ""},
	{"DATA on a stream that was never opened", sends(data, 0, fresh, 'x'), protocol, alive},
	{"DATA on a stream of the server's", sends(data, 0, 2, 'x'), protocol, alive},
	{"DATA on a stream that has ended", sends(data, 0, ended, 'x'), alive, ""},
	{"DATA after the end of the client's side", sends(data, 0, half, 'x'), "alive\n5: STREAM_CLOSED", ""},
	{"DATA of nothing after the end of the client's side", sends(data, flagEnd, half), "alive\n5: STREAM_CLOSED", ""},
	{"DATA that is all padding", sends(data, flagPadded, echoed, 3, 0, 0, 0), alive, ""},
	{"DATA with more padding than bytes", sends(data, flagPadded, echoed, 4, 0, 0, 0), protocol, ""},
	{"DATA that is padded and has no length of it", sends(data, flagPadded, echoed), frameSize, ""},
	{"DATA longer than a frame may be", func(w *wire) { w.raw(rawFrame(16385, data, 0, echoed, zeroes(16385)...)) }, frameSize, ""},
	{"HEADERS on the connection", func(w *wire) { w.headers(0, true, pairs("Unary")...) }, protocol, ""},
	{"HEADERS of an even stream", func(w *wire) { w.headers(8, true, pairs("Unary")...) }, protocol, ""},
	{"HEADERS of a stream before the last", func(w *wire) { w.headers(9, true, pairs("Missing")...); w.headers(fresh, true, pairs("Unary")...) }, protocol, ""},
	{"HEADERS twice", func(w *wire) { w.headers(echoed, true, pairs("Bidi")...) }, protocol, ""},
	{"HEADERS as trailers of a client", func(w *wire) { w.headers(echoed, true, "k", "v") }, protocol, ""},
	{"HEADERS on a stream that has ended", func(w *wire) { w.headers(ended, true, pairs("Unary")...) }, protocol, ""},
	{"HEADERS after the end of the client's side", func(w *wire) { w.headers(half, true, pairs("Unary")...) }, protocol, ""},
	{"HEADERS with more padding than bytes", sends(headers, flagPadded|flagHeadersEnd, fresh, 200, 0x82), protocol, "alive\n7: PROTOCOL_ERROR"},
	{"HEADERS that are padded and have no length of it", sends(headers, flagPadded|flagHeadersEnd, fresh), frameSize, ""},
	{"HEADERS too short for their priority", sends(headers, flagPriority|flagHeadersEnd, fresh, 0, 0, 0), frameSize, ""},
	{"PRIORITY on the connection", sends(priority, 0, 0, zeroes(5)...), protocol, ""},
	{"PRIORITY of a wrong length", sends(priority, 0, echoed, zeroes(4)...), frameSize, ""},
	{"PRIORITY of a stream on itself", sends(priority, 0, echoed, 0, 0, 0, 1, 0), alive, ""},
	{"PRIORITY of a stream that was never opened", sends(priority, 0, 99, zeroes(5)...), alive, ""},
	{"RST_STREAM on the connection", sends(reset, 0, 0, 0, 0, 0, 8), protocol, ""},
	{"RST_STREAM of a wrong length", sends(reset, 0, echoed, 0, 0, 8), frameSize, ""},
	{"RST_STREAM of a stream that was never opened", sends(reset, 0, fresh, 0, 0, 0, 8), protocol, alive},
	{"RST_STREAM of a stream that has ended", sends(reset, 0, ended, 0, 0, 0, 8), alive, ""},
	{"RST_STREAM twice", sequence(sends(reset, 0, echoed, 0, 0, 0, 8), sends(reset, 0, echoed, 0, 0, 0, 8)), alive, ""},
	{"RST_STREAM of an unknown code", sends(reset, 0, echoed, 0xff, 0, 0, 0), alive, ""},
	{"DATA after RST_STREAM", sequence(sends(reset, 0, echoed, 0, 0, 0, 8), sends(data, 0, echoed, 'x')), alive, ""},
	{"SETTINGS on a stream", sends(settings, 0, echoed), protocol, ""},
	{"SETTINGS of a wrong length", sends(settings, 0, 0, zeroes(7)...), frameSize, ""},
	{"SETTINGS that acknowledge and set", sends(settings, flagAck, 0, 0, 4, 0, 0, 0, 9), frameSize, ""},
	{"SETTINGS acknowledged that nobody sent", sequence(sends(settings, flagAck, 0), sends(settings, flagAck, 0)), alive, ""},
	{"SETTINGS that nobody knows", sends(settings, 0, 0, 0xfe, 0xdc, 1, 2, 3, 4), alive, ""},
	{"SETTINGS with a window too large", sends(settings, 0, 0, 0, 4, 0x80, 0, 0, 0), flow, ""},
	{"SETTINGS with frames too small", sends(settings, 0, 0, 0, 5, 0, 0, 0x3f, 0xff), protocol, alive},
	{"SETTINGS with frames too large", sends(settings, 0, 0, 0, 5, 1, 0, 0, 0), protocol, alive},
	{"SETTINGS with a push of 2", sends(settings, 0, 0, 0, 2, 0, 0, 0, 2), protocol, alive},
	{"SETTINGS with a table of nothing", sends(settings, 0, 0, 0, 1, 0, 0, 0, 0), alive, ""},
	{"SETTINGS with a table of 4 GiB", sends(settings, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff), alive, ""},
	{"SETTINGS that let a window overflow", sequence(sends(update, 0, half, 0x7f, 0xff, 0, 0), sends(settings, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff)), flow, alive},
	{"PUSH_PROMISE", sends(push, flagHeadersEnd, echoed, 0, 0, 0, 2, 0x82), protocol, alive},
	{"PING on a stream", sends(ping, 0, echoed, zeroes(8)...), protocol, ""},
	{"PING of a wrong length", sends(ping, 0, 0, zeroes(7)...), frameSize, ""},
	{"PING acknowledged that nobody sent", sends(ping, flagAck, 0, 1, 6, 1, 8, 0, 3, 3, 9), alive, ""},
	{"GOAWAY on a stream", sends(goaway, 0, echoed, zeroes(8)...), protocol, ""},
	{"GOAWAY of a wrong length", sends(goaway, 0, 0, zeroes(7)...), frameSize, ""},
	{"GOAWAY", sends(goaway, 0, 0, zeroes(8)...), alive, ""},
	{"WINDOW_UPDATE of a wrong length", sends(update, 0, 0, 0, 0, 1), frameSize, ""},
	{"WINDOW_UPDATE of nothing on the connection", sends(update, 0, 0, 0, 0, 0, 0), protocol, ""},
	{"WINDOW_UPDATE of nothing on a stream", sends(update, 0, echoed, 0, 0, 0, 0), "alive\n1: PROTOCOL_ERROR", ""},
	{"WINDOW_UPDATE of nothing on a stream that has ended", sends(update, 0, ended, 0, 0, 0, 0), alive, "alive\n3: | PROTOCOL_ERROR"},
	{"WINDOW_UPDATE of a stream that was never opened", sends(update, 0, fresh, 0, 0, 0, 1), protocol, alive},
	{"WINDOW_UPDATE of a stream that has ended", sends(update, 0, ended, 0x7f, 0xff, 0xff, 0xff), alive, ""},
	{"WINDOW_UPDATE beyond the limit of the connection", sends(update, 0, 0, 0x7f, 0xff, 0xff, 0xff), flow, alive},
	{"WINDOW_UPDATE beyond the limit of a stream", sends(update, 0, half, 0x7f, 0xff, 0xff, 0xff), "alive\n5: FLOW_CONTROL_ERROR", alive},
	{"WINDOW_UPDATE with the reserved bit", sends(update, 0, 0, 0x80, 0, 0, 1), alive, ""},
	{"CONTINUATION without HEADERS", sends(continuation, flagHeadersEnd, echoed, 0x82), protocol, ""},
	{"CONTINUATION on the connection", sends(continuation, flagHeadersEnd, 0, 0x82), protocol, ""},
	{"CONTINUATION of another stream", sequence(sends(headers, 0, fresh, 0x83), sends(continuation, flagHeadersEnd, 9, 0x86)), protocol, ""},
	{"CONTINUATION that is missing", sequence(sends(headers, 0, fresh, 0x83), sends(ping, 0, 0, zeroes(8)...)), protocol, ""},
	{"HEADERS in place of CONTINUATION", sequence(sends(headers, 0, fresh, 0x83), sends(headers, flagHeadersEnd, fresh, 0x86)), protocol, ""},
	{"an unknown frame in place of CONTINUATION", sequence(sends(headers, 0, fresh, 0x83), sends(0xf0, 0, fresh)), protocol, ""},
	{"an unknown frame", sends(0xf0, 0xff, 12345, 1, 2, 3), alive, ""},
	{"an unknown frame on the connection", sends(0x0a, 0, 0), alive, ""},
	{"an unknown frame longer than a frame may be", func(w *wire) { w.raw(rawFrame(16385, 0xf0, 0, 0, zeroes(16385)...)) }, frameSize, ""},
	{"a frame of 16 MiB that does not come", func(w *wire) { w.raw(rawFrame(1<<24-1, data, 0, echoed)) }, frameSize, ""},
	{"DATA with the reserved bit of its stream", sends(data, 0, 1<<31|ended, 'x'), alive, ""},
}

// fate tells what became of the connection.
func (w *wire) fate() string {
	w.t.Helper()
	w.settle()
	w.mu.Lock()
	over, code := w.over, w.broken()
	w.mu.Unlock()
	if code != "" {
		return "cut " + code
	}
	if over {
		return "cut"
	}
	id := max(w.next, 1001)
	w.next = id + 2
	w.headers(id, false, pairs("Unary")...)
	w.message(id, []byte("next"), true)
	w.ended(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.reply(id).String(); got != `:status=200 content-type=application/grpc | "next" | grpc-status=0` {
		return "the next call gets " + got
	}
	delete(w.streams, id)
	return alive
}

// stage makes the streams that a hostile client finds.
func stage(t testing.TB, l *lab) *wire {
	w := l.wire(t)
	w.call("Bidi")
	w.message(echoed, []byte("x"), false)
	w.wait("an echo", func() bool { return w.reply(echoed).data.Len() > 0 })
	w.call("Unary")
	w.message(ended, nil, true)
	w.ended(ended)
	w.call("Server")
	w.message(half, nil, true)
	w.wait("a header", func() bool { return len(w.reply(half).heads) > 0 })
	return w
}

// staged is a server for stage.
func staged(t testing.TB, k kind) *lab {
	return start(t, k, options{maxRecv: 100_000, stream: func(s grpc.ServerStream) error {
		if name, _ := grpc.Method(s.Context()); name != "/lab.Lab/Server" {
			return echoAll(s)
		}
		if err := s.SendHeader(nil); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}})
}

// TestMisplacedFrames does each to a connection with streams in every state.
func TestMisplacedFrames(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := staged(t, k)
		for _, c := range misplaced {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				w := stage(t, l)
				before := w.verdict()
				c.act(w)
				fate := w.fate()
				check(t, k, c, fate, before, w)
			})
		}
	})
}

// check compares a fate and the streams that changed with what was wanted.
func check(t *testing.T, k kind, c hostile, fate, before string, w *wire) {
	t.Helper()
	want := c.want
	if k.name == "grpc-go" && c.lax != "" {
		want = c.lax
	}
	if k.name == "grpc-go" && fate == "cut" && strings.HasPrefix(want, "cut") {
		return // it says nothing about most of them
	}
	got := fate
	if !strings.HasPrefix(fate, "cut") {
		old := strings.Split(before, "\n")
		for _, line := range strings.Split(w.verdict(), "\n") {
			id, _, _ := strings.Cut(line, ":")
			if slices.Contains(old, line) || line == "" {
				continue
			}
			// What the stream had before says nothing new.
			for _, o := range old {
				if strings.HasPrefix(o, id+":") {
					line = id + ": " + strings.TrimPrefix(strings.TrimPrefix(line, strings.TrimSuffix(o, " ...")), " ")
				}
			}
			got += "\n" + line
		}
	}
	if got != want {
		t.Errorf("%s, want %s; goaway %v %q\n%s", got, want, w.goaways, w.debugs, fmt.Sprint(w.verdict()))
	}
}
