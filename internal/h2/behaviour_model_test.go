package h2_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"
)

// scheduled is one call of a schedule, and what is left of its request.
type scheduled struct {
	id       uint32
	method   string
	messages [][]byte
	left     []byte
	ended    bool // the client has ended its side
	reset    bool
}

// want is what the call must get.
func (c *scheduled) want() string {
	const head = ":status=200 content-type=application/grpc"
	fails := func(text string) string {
		return head + " grpc-status=10 grpc-message=" + text
	}
	first := c.messages[0]
	switch c.method {
	case "Unary":
		if len(first) > 0 && first[0] == '!' {
			return fails(fmt.Sprintf("%d bytes", len(first)))
		}
		return head + " | " + wanted(first) + " | grpc-status=0"
	case "Client":
		total := 0
		for _, m := range c.messages {
			total += len(m)
		}
		return head + " | " + wanted(fmt.Appendf(nil, "%d/%d", len(c.messages), total)) + " | grpc-status=0"
	case "Server":
		var all []string
		for i := range len(first) % 7 {
			all = append(all, wanted(first[:len(first)/(i+1)]))
		}
		if len(all) == 0 {
			return head + " grpc-status=0"
		}
		return head + " | " + strings.Join(all, " ") + " | grpc-status=0"
	}
	var all []string
	for _, m := range c.messages {
		all = append(all, wanted(m))
	}
	return head + " | " + strings.Join(all, " ") + " | grpc-status=0"
}

// wanted is a message as body tells it.
func wanted(m []byte) string {
	if len(m) > 20 {
		return fmt.Sprintf("%q", fmt.Sprintf("%d bytes", len(m)))
	}
	return fmt.Sprintf("%q", m)
}

// modelled are the handlers of the model.
func modelled() options {
	return options{
		maxRecv: 1 << 20, minPing: 1,
		unary: func(_ context.Context, in []byte) ([]byte, error) {
			if len(in) > 0 && in[0] == '!' {
				return nil, status.Errorf(codes.Aborted, "%d bytes", len(in))
			}
			return in, nil
		},
		stream: func(s grpc.ServerStream) error {
			name, _ := grpc.Method(s.Context())
			switch name {
			case "/lab.Lab/Server":
				in, err := hear(s)
				if err != nil {
					return err
				}
				for i := range len(in) % 7 {
					if err := s.SendMsg(&message{in[:len(in)/(i+1)]}); err != nil {
						return err
					}
				}
				return nil
			case "/lab.Lab/Client":
				n, total := 0, 0
				for {
					in, err := hear(s)
					if errors.Is(err, io.EOF) {
						return s.SendMsg(&message{fmt.Appendf(nil, "%d/%d", n, total)})
					}
					if err != nil {
						return err
					}
					n, total = n+1, total+len(in)
				}
			}
			return echoAll(s)
		},
	}
}

// TestSchedules runs random schedules of what clients may do: every call that is not cancelled gets what the model says.
func TestSchedules(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, modelled())
		rapid.Check(t, func(r *rapid.T) {
			w := l.plug(t)
			defer w.conn.Close()
			window := rapid.SampledFrom([]uint32{0, 1, 100, 5000, 65535, 1 << 20}).Draw(r, "window")
			w.hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			w.listen()
			var calls []*scheduled
			for range rapid.IntRange(1, 60).Draw(r, "steps") {
				advance(r, w, &calls)
			}
			w.set(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			w.grant(0, 1<<30)
			for _, c := range calls {
				if c.reset {
					continue
				}
				w.upload(c.id, c.left, false)
				if !c.ended {
					w.data(c.id, nil, true)
				}
			}
			for _, c := range calls {
				if c.reset {
					continue
				}
				w.ended(c.id)
				w.mu.Lock()
				got := w.reply(c.id).String()
				data := bytes.Clone(w.reply(c.id).data.Bytes())
				w.mu.Unlock()
				if want := c.want(); got != want {
					r.Fatalf("stream %d, %s of %d messages: %s\nwant %s\nthe connection: %v %q", c.id, c.method, len(c.messages), got, want, w.over, w.debugs)
				}
				if c.method == "Bidi" && !bytes.Equal(data, slices.Concat(mapped(c.messages, enclosed)...)) {
					r.Fatalf("stream %d: other bytes come back", c.id)
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.goaways) > 0 || w.over {
				r.Fatalf("the connection ends: %v", w.debugs)
			}
		})
	})
}

func mapped(in [][]byte, f func([]byte) []byte) [][]byte {
	var out [][]byte
	for _, b := range in {
		out = append(out, f(b))
	}
	return out
}

// advance does one act of a schedule.
func advance(r *rapid.T, w *wire, calls *[]*scheduled) {
	var open []*scheduled
	for _, c := range *calls {
		if !c.reset {
			open = append(open, c)
		}
	}
	pick := func() *scheduled { return open[rapid.IntRange(0, len(open)-1).Draw(r, "call")] }
	act := rapid.SampledFrom([]string{"open", "open", "send", "send", "send", "all", "cancel", "ping", "window", "grant", "connection", "table"}).Draw(r, "act")
	if len(open) == 0 && !slices.Contains([]string{"ping", "window", "table", "connection"}, act) {
		act = "open"
	}
	switch act {
	case "open":
		c := &scheduled{method: rapid.SampledFrom([]string{"Unary", "Client", "Server", "Bidi"}).Draw(r, "method")}
		n := 1
		if c.method == "Client" || c.method == "Bidi" {
			n = rapid.IntRange(1, 6).Draw(r, "messages")
		}
		for range n {
			m := pattern(rapid.SampledFrom([]int{0, 1, 5, 20, 100, 1000, 16379, 16384, 40_000}).Draw(r, "size"))
			if len(m) > 0 {
				m[0] = rapid.SampledFrom([]byte("!a")).Draw(r, "first")
			}
			c.messages, c.left = append(c.messages, m), append(c.left, enclosed(m)...)
		}
		c.id = w.call(c.method)
		*calls = append(*calls, c)
	case "send":
		c := pick()
		w.drive(c, rapid.SampledFrom([]int{0, 1, 4, 5, 6, 100, 3000, 16384}).Draw(r, "bytes"))
	case "all":
		c := pick()
		w.drive(c, len(c.left))
	case "cancel":
		c := pick()
		c.reset = true
		w.send(func(f *http2.Framer) error { return f.WriteRSTStream(c.id, http2.ErrCodeCancel) })
	case "ping":
		// Only beside a call, where minPing decides.
		if len(open) > 0 && !open[len(open)-1].ended {
			w.send(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{'x'}) })
		}
	case "window":
		w.set(http2.Setting{ID: http2.SettingInitialWindowSize, Val: rapid.SampledFrom([]uint32{0, 1, 100, 5000, 65535, 1 << 20}).Draw(r, "window")})
	case "grant":
		w.grant(pick().id, rapid.SampledFrom([]uint32{1, 10, 1000, 100_000}).Draw(r, "bytes"))
	case "connection":
		w.grant(0, rapid.SampledFrom([]uint32{1, 1000, 100_000}).Draw(r, "bytes"))
	case "table":
		if w.next == w.packed {
			return // the decoder that both use refuses a block that changes the size twice
		}
		w.packed = w.next
		w.pack.SetMaxDynamicTableSize(rapid.SampledFrom([]uint32{0, 50, 100, 4096}).Draw(r, "table"))
	}
}

// drive sends up to n bytes of what is left of a request, as far as the server's windows allow, with or without its end.
func (w *wire) drive(c *scheduled, n int) {
	for n = min(n, len(c.left)); !c.reset && !c.ended; {
		k := min(n, 16384)
		if !w.mayWrite(c.id, k) {
			return
		}
		b := c.left[:k]
		c.left = c.left[k:]
		n -= k
		c.ended = len(c.left) == 0 && c.id%4 == 1
		w.data(c.id, b, c.ended)
		if n == 0 {
			return
		}
	}
}

// TestHeadersAreThoseSent makes many calls with random headers, many of them alike: through any representation, with tables that
// change their size and forget, a handler sees what was sent.
func TestHeadersAreThoseSent(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		saw := make(chan string, 1)
		l := start(t, k, options{unary: func(ctx context.Context, in []byte) ([]byte, error) {
			name, _ := grpc.Method(ctx)
			at, ok := ctx.Deadline()
			if ok && at.IsZero() {
				return nil, errors.New("no deadline")
			}
			saw <- fmt.Sprintf("%s %v %s", name, ok, seen(ctx))
			return in, nil
		}})
		names := []string{"a", "b", "long-name-of-a-header", "k-bin", "authorization"}
		values := []string{"", "x", "y", "AAEC", strings.Repeat("v", 30), strings.Repeat("w", 1500)}
		rapid.Check(t, func(r *rapid.T) {
			w := l.plug(t)
			defer w.conn.Close()
			w.widen()
			w.listen()
			var known [][]hpack.HeaderField
			for range rapid.IntRange(1, 40).Draw(r, "calls") {
				var fields []hpack.HeaderField
				if len(known) > 0 && rapid.IntRange(0, 3).Draw(r, "again") > 0 {
					fields = known[rapid.IntRange(0, len(known)-1).Draw(r, "which")]
				} else {
					p := pairs("Unary")
					if rapid.Bool().Draw(r, "timed") {
						p = append(p, "grpc-timeout", rapid.SampledFrom([]string{"1H", "2H"}).Draw(r, "timeout"))
					}
					for i := 0; i < len(p); i += 2 {
						fields = append(fields, hpack.HeaderField{Name: p[i], Value: p[i+1]})
					}
					for range rapid.IntRange(0, 4).Draw(r, "fields") {
						fields = append(fields, hpack.HeaderField{Name: rapid.SampledFrom(names).Draw(r, "name"),
							Value: rapid.SampledFrom(values).Draw(r, "value"), Sensitive: rapid.IntRange(0, 9).Draw(r, "sensitive") == 0})
					}
					known = append(known, fields)
				}
				if rapid.IntRange(0, 7).Draw(r, "resize") == 0 {
					w.pack.SetMaxDynamicTableSize(rapid.SampledFrom([]uint32{0, 40, 100, 300, 2000, 4096}).Draw(r, "table"))
				}
				id := w.next
				w.next += 2
				w.write.Lock()
				w.block.Reset()
				for _, f := range fields {
					_ = w.pack.WriteField(f)
				}
				_ = w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.block.Bytes(), EndHeaders: true})
				w.write.Unlock()
				bad := modelFields(fields)
				w.message(id, nil, true)
				w.ended(id)
				if bad.refused {
					continue
				}
				select {
				case got := <-saw:
					if got != bad.want {
						r.Fatalf("stream %d: %s\nwant %s", id, got, bad.want)
					}
				default:
					r.Fatalf("stream %d: no handler, but %s", id, w.verdict())
				}
			}
		})
	})
}

// modelled headers: what a handler sees of fields, or that they are refused.
type modelledHeaders struct {
	want    string
	refused bool
}

func modelFields(fields []hpack.HeaderField) modelledHeaders {
	md := map[string][]string{}
	timed := false
	for _, f := range fields {
		switch f.Name {
		case ":method", ":scheme", ":path", "te":
		case "grpc-timeout":
			timed = true
		case "k-bin":
			packed := base64.RawStdEncoding
			if len(f.Value)%4 == 0 {
				packed = base64.StdEncoding
			}
			v, err := packed.DecodeString(f.Value)
			if err != nil {
				return modelledHeaders{refused: true}
			}
			md[f.Name] = append(md[f.Name], string(v))
		default:
			md[f.Name] = append(md[f.Name], f.Value)
		}
	}
	return modelledHeaders{want: fmt.Sprintf("/lab.Lab/Unary %v %s", timed, told(md))}
}
