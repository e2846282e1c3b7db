package h2_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// refusal is what a stream gets that has no handler.
func refusal(http int, code codes.Code, message string) string {
	return fmt.Sprintf("alive\n7: :status=%d content-type=application/grpc grpc-status=%d grpc-message=%s", http, code, message)
}

// with are the headers of a unary call with some replaced by others of their name, and new ones after them.
func with(kv ...string) []string {
	out := pairs("Unary")
	for i := 0; i < len(kv); i += 2 {
		found := false
		for j := 0; j < len(out); j += 2 {
			if out[j] == kv[i] {
				out[j+1], found = kv[i+1], true
			}
		}
		if !found {
			out = append(out, kv[i], kv[i+1])
		}
	}
	return out
}

// without are the headers of a unary call but one.
func without(name string) []string {
	out := pairs("Unary")
	for i := 0; i < len(out); i += 2 {
		if out[i] == name {
			return append(out[:i], out[i+2:]...)
		}
	}
	return out
}

const (
	answered = `alive
7: :status=200 content-type=application/grpc | "" | grpc-status=0`
	malformed = "alive\n7: PROTOCOL_ERROR"
)

// unaryWith is a call of these headers with an empty request.
func unaryWith(kv ...string) func(w *wire) {
	return func(w *wire) {
		w.headers(fresh, false, kv...)
		w.data(fresh, enclosed(nil), true)
	}
}

// alone is a request that is its headers.
func alone(kv ...string) func(w *wire) {
	return func(w *wire) { w.headers(fresh, true, kv...) }
}

// block is a header block of these bytes.
func block(b ...byte) func(w *wire) { return sends(headers, flagHeadersEnd|flagEnd, fresh, b...) }

var oddHeaders = []hostile{
	{"a call as it should be", unaryWith(pairs("Unary")...), answered, ""},
	{"a subtype is answered", unaryWith(with("content-type", "application/grpc+proto")...), strings.Replace(answered, "grpc |", "grpc+proto |", 1), ""},
	{"a parameter is a subtype", unaryWith(with("content-type", "application/grpc;charset=utf-8")...), strings.Replace(answered, "grpc |", "grpc+charset=utf-8 |", 1), ""},
	{"a subtype in capitals", unaryWith(with("content-type", "application/grpc+JSON")...), strings.Replace(answered, "grpc |", "grpc+JSON |", 1), ""},
	{"a content-type in capitals", alone(with("content-type", "APPLICATION/GRPC")...), refusal(415, codes.InvalidArgument, `invalid gRPC request content-type "APPLICATION/GRPC"`), ""},
	{"no content-type", alone(without("content-type")...), refusal(415, codes.InvalidArgument, `invalid gRPC request content-type ""`), ""},
	{"another content-type", alone(with("content-type", "text/plain")...), refusal(415, codes.InvalidArgument, `invalid gRPC request content-type "text/plain"`), ""},
	{"a content-type that begins as ours", alone(with("content-type", "application/grpcd")...), refusal(415, codes.InvalidArgument, `invalid gRPC request content-type "application/grpcd"`), ""},
	{"gRPC-Web", alone(with("content-type", "application/grpc-web")...), refusal(415, codes.InvalidArgument, `invalid gRPC request content-type "application/grpc-web"`), ""},
	{"another content-type, and more to come", func(w *wire) { w.headers(fresh, false, with("content-type", "a")...) }, refusal(415, codes.InvalidArgument, `invalid gRPC request content-type "a"`) + " | NO_ERROR", ""},
	{"two content-types", unaryWith(append(pairs("Unary"), "content-type", "application/grpc")...), answered, ""},
	{"another method", alone(with(":method", "GET")...), refusal(405, codes.Internal, `Received a HEADERS frame with :method "GET" which should be POST`), ""},
	{"a method in small letters", alone(with(":method", "post")...), refusal(405, codes.Internal, `Received a HEADERS frame with :method "post" which should be POST`), ""},
	{"no method", alone(without(":method")...), refusal(405, codes.Internal, `Received a HEADERS frame with :method "" which should be POST`), ""},
	{"no path", unaryWith(without(":path")...), refusal(200, codes.Unimplemented, `malformed method name: ""`), ""},
	{"a path without a slash", unaryWith(with(":path", "lab.Lab/Unary")...), refusal(200, codes.Unimplemented, `malformed method name: "lab.Lab/Unary"`), ""},
	{"a path of one part", unaryWith(with(":path", "/lab.Lab")...), refusal(200, codes.Unimplemented, `malformed method name: "/lab.Lab"`), ""},
	{"a path that is no text", unaryWith(with(":path", "/\xff/\x80")...), refusal(200, codes.Unimplemented, "unknown service %EF%BF%BD"), ""},
	{"no scheme", unaryWith(without(":scheme")...), answered, ""},
	{"an odd scheme", unaryWith(with(":scheme", "gopher")...), answered, ""},
	{"no authority", alone(without(":authority")...), refusal(400, codes.Internal, "no host or :authority header present"), ""},
	{"a host for an authority", unaryWith(append(without(":authority"), "host", "lab")...), answered, ""},
	{"a host and an authority", unaryWith(with("host", "other")...), answered, ""},
	{"two hosts", alone(append(pairs("Unary"), "host", "a", "host", "b")...), refusal(400, codes.Internal, "num values of :authority: 1, num values of host: 2, both must only have 1 value as per HTTP/2 spec"), ""},
	{"no te", unaryWith(without("te")...), answered, ""},
	{"an odd te", unaryWith(with("te", "gzip")...), answered, ""},
	{"a connection header", alone(with("connection", "keep-alive")...), malformed, ""},
	{"a grpc-timeout that is none", alone(with("grpc-timeout", "1x")...), refusal(400, codes.Internal, `malformed grpc-timeout: transport: timeout unit is not recognized: "1x"`), ""},
	{"a grpc-timeout without a number", alone(with("grpc-timeout", "S")...), refusal(400, codes.Internal, `malformed grpc-timeout: transport: timeout string is too short: "S"`), ""},
	{"a grpc-timeout of nine digits", alone(with("grpc-timeout", "123456789S")...), refusal(400, codes.Internal, `malformed grpc-timeout: transport: timeout string is too long: "123456789S"`), ""},
	{"a grpc-timeout below zero", alone(with("grpc-timeout", "-1S")...), refusal(400, codes.Internal, `malformed grpc-timeout: strconv.ParseUint: parsing "-1": invalid syntax`), ""},
	{"a grpc-timeout of nothing", alone(with("grpc-timeout", "0n")...), refusal(200, codes.DeadlineExceeded, "context deadline exceeded"), ""},
	{"a grpc-timeout of eleven thousand years", unaryWith(with("grpc-timeout", "99999999H")...), answered, ""},
	{"two grpc-timeouts", unaryWith(append(pairs("Unary"), "grpc-timeout", "0n", "grpc-timeout", "9H")...), answered, ""},
	{"binary metadata that is none", alone(with("a-bin", "!")...), refusal(400, codes.Internal, `malformed binary metadata "!" in header "a-bin": illegal base64 data at input byte 0`), ""},
	{"binary metadata with padding", unaryWith(with("a-bin", "AA==")...), answered, ""},
	{"a value with a line end", alone(with("k", "a\r\nb")...), malformed, ""},
	{"a value with a zero", alone(with("k", "a\x00b")...), malformed, ""},
	{"a value that is no text", unaryWith(with("k", "\xff\x80")...), answered, ""},
	{"a name in capitals", alone(with("Key", "v")...), malformed, ""},
	{"a name with a space", alone(with("a b", "v")...), malformed, ""},
	{"a name of nothing", alone(with("", "v")...), malformed, ""},
	{"a name with a colon", alone(with("a:b", "v")...), malformed, ""},
	{"a pseudo header that nobody knows", alone(append([]string{":odd", "v"}, pairs("Unary")...)...), malformed, ""},
	{"a pseudo header of answers", alone(append([]string{":status", "200"}, pairs("Unary")...)...), malformed, ""},
	{"a pseudo header after others", alone(append(without(":path"), ":path", "/lab.Lab/Unary")...), malformed, ""},
	{"a pseudo header twice", alone(append([]string{":path", "/lab.Lab/Unary"}, pairs("Unary")...)...), malformed, ""},
	{"an authority twice", alone(append([]string{":authority", "lab"}, pairs("Unary")...)...), malformed, ""},
	{"no headers at all", block(), refusal(415, codes.InvalidArgument, `invalid gRPC request content-type ""`), ""},
	{"an index of nothing", block(0x80), packed, ""},
	{"an index beyond the tables", block(0xff, 0xff, 0xff, 0x7f), packed, ""},
	{"a number without an end", block(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), packed, ""},
	{"a string longer than its block", block(0x40, 0x0a, 'a'), packed, ""},
	{"a string of Huffman code that ends badly", block(0x40, 0x81, 0x00, 0x01, 'v'), packed, ""},
	{"a table larger than allowed", block(0x3f, 0xff, 0xff, 0x03), packed, ""},
	{"a table size in the middle of a block", block(0x83, 0x20), packed, ""},
	{"a block that is cut", block(0x41), packed, ""},
	{"an empty path in the static table's name", unaryWith(with(":path", "")...), refusal(200, codes.Unimplemented, `malformed method name: ""`), ""},
}

// TestOddHeaders: requests whose headers break a rule, or come close.
func TestOddHeaders(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := staged(t, k)
		for _, c := range oddHeaders {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				w := stage(t, l)
				before := w.verdict()
				c.act(w)
				w.wait("the end of a stream", func() bool { return w.reply(fresh).ended || w.broken() != "" })
				fate := w.fate()
				w.mu.Lock()
				r := w.reply(fresh)
				if r.reset == "NO_ERROR" && !strings.Contains(c.want, "NO_ERROR") {
					r.reset = "" // the status was faster than the end of the request
				}
				w.mu.Unlock()
				check(t, k, c, fate, before, w)
			})
		}
	})
}

// TestManyHeaders: lists up to the limit are served, those above are reset, and none of them costs memory without end.
func TestManyHeaders(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := staged(t, k)
		for _, c := range []struct {
			name   string
			fields int
			length int
			frames bool // each field in a frame of its own
			want   []string
		}{
			{"a thousand fields", 1000, 10, false, []string{answered}},
			{"one field of 500 KB", 1, 500_000, false, []string{answered}},
			{"fields of 17 MB", 170, 100_000, false, []string{"alive\n7: FRAME_SIZE_ERROR", calm, "cut", protocol, packed}},
			{"a hundred frames", 100, 10, true, []string{answered}},
			{"more frames than anyone needs", 40_000, 1000, true, []string{"alive\n7: FRAME_SIZE_ERROR", calm, "cut", protocol}},
		} {
			w := stage(t, l)
			before := w.verdict()
			w.write.Lock()
			var kv []string
			if !c.frames {
				kv = pairs("Unary")
				for i := range c.fields {
					kv = append(kv, fmt.Sprintf("k%d", i), strings.Repeat("v", c.length))
				}
				b := w.encode(kv)
				for first := true; first || len(b) > 0; first = false {
					n := min(len(b), 16384)
					if first {
						_ = w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: fresh, BlockFragment: b[:n], EndHeaders: n == len(b)})
					} else if w.fr.WriteContinuation(fresh, n == len(b), b[:n]) != nil {
						break
					}
					b = b[n:]
				}
			} else {
				_ = w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: fresh, BlockFragment: w.encode(pairs("Unary"))})
				for i := range c.fields {
					if w.fr.WriteContinuation(fresh, i == c.fields-1, w.encode([]string{fmt.Sprintf("k%d", i), strings.Repeat("v", c.length)})) != nil {
						break
					}
				}
			}
			w.write.Unlock()
			w.data(fresh, enclosed(nil), true)
			w.wait("the end of a stream", func() bool { return w.reply(fresh).ended || w.broken() != "" })
			fate := w.fate()
			if strings.HasPrefix(fate, alive) {
				fate = alive
				for _, line := range strings.Split(w.verdict(), "\n") {
					if strings.HasPrefix(line, "7:") {
						fate += "\n" + line
					}
				}
			}
			found := false
			for _, want := range c.want {
				found = found || fate == want
			}
			if !found {
				t.Errorf("%s, %s: %s, want %q\n%s", c.name, k.name, fate, c.want, before)
			}
		}
	})
}

// TestAnswersBeyondTheClientsLimit: headers larger than the client says it takes end the stream.
func TestAnswersBeyondTheClientsLimit(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{
			unary: func(ctx context.Context, in []byte) ([]byte, error) {
				if len(in) > 0 {
					return nil, fmt.Errorf("%s", strings.Repeat("long ", 100))
				}
				return nil, nil
			},
			stream: func(s grpc.ServerStream) error {
				s.SetTrailer(map[string][]string{"t": {strings.Repeat("x", 500)}})
				return nil
			},
		})
		w := l.plug(t)
		w.hello(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 300})
		w.listen()
		w.message(w.call("Unary"), nil, true)
		w.message(w.call("Unary"), []byte("x"), true)
		w.data(w.call("Client"), nil, true)
		w.ended(1, 3, 5)
		want := "1: :status=200 content-type=application/grpc | \"\" | grpc-status=0\n3: INTERNAL_ERROR\n5: INTERNAL_ERROR"
		if got := w.verdict(); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	})
}

// TestTablesOfHeaders: the same call through every representation of its fields, in tables of every size.
func TestTablesOfHeaders(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		saw := make(chan string, 1)
		l := start(t, k, options{unary: func(ctx context.Context, in []byte) ([]byte, error) { saw <- seen(ctx); return in, nil }})
		const want = `{:authority=["lab"] content-type=["application/grpc"] secret=["s"] word=["a" "b" "a"]}`
		w := l.wide(t)
		fields := []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/lab.Lab/Unary"},
			{Name: ":authority", Value: "lab"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
			{Name: "word", Value: "a"}, {Name: "word", Value: "b"}, {Name: "secret", Value: "s", Sensitive: true}, {Name: "word", Value: "a"}}
		for i, size := range []uint32{4096, 4096, 4096, 0, 0, 60, 60, 200, 4096, 4096, 4096, 100, 4096} {
			w.pack.SetMaxDynamicTableSize(size)
			id := w.next
			w.next += 2
			w.write.Lock()
			w.block.Reset()
			for _, f := range fields {
				_ = w.pack.WriteField(f)
			}
			_ = w.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: bytes.Clone(w.block.Bytes()), EndHeaders: true})
			w.write.Unlock()
			w.message(id, []byte("x"), true)
			if got := receive(t, "the handler", saw); got != want {
				t.Errorf("call %d, table of %d: %s", i, size, got)
			}
			w.ended(id)
		}
	})
}
