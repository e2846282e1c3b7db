package h2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// pattern is n bytes that tell their place, so that a piece lost or moved shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16) ^ byte(i>>8)*7 ^ byte(i)
	}
	if n > 0 && b[0] == badByte {
		b[0] = 0
	}
	return b
}

// TestUnaryAnswersOfEverySize sends messages of one size and gets those of another.
func TestUnaryAnswersOfEverySize(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		var size int
		var mu sync.Mutex
		l := start(t, k, options{maxRecv: 16 << 20, unary: func(_ context.Context, in []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if !bytes.Equal(in, pattern(len(in))) {
				return nil, errors.New("the request is not what was sent")
			}
			return pattern(size), nil
		}})
		conn := l.dial(t)
		for _, c := range []struct{ in, out int }{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {5, 16379}, {16379, 5}, {16380, 16384}, {16384, 16380},
			{65535, 65536}, {65536, 65535}, {64 << 10, 64 << 10}, {1536 << 10, 3}, {3, 1536 << 10}, {10 << 20, 10 << 20}} {
			mu.Lock()
			size = c.out
			mu.Unlock()
			o := call(t, conn, "Unary", pattern(c.in))
			if want := `OK "" header={content-type=["application/grpc"]} trailer=-`; o.String() != want {
				t.Errorf("%d bytes for %d: %v, want %v", c.out, c.in, o, want)
			}
			if !bytes.Equal(o.body, pattern(c.out)) {
				t.Errorf("%d bytes for %d: the answer has %d bytes or others", c.out, c.in, len(o.body))
			}
		}
	})
}

// TestRequestsAtTheLimit: one that is as large as allowed is served, one that has a byte more is refused.
func TestRequestsAtTheLimit(t *testing.T) {
	const limit = 100_000
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{maxRecv: limit})
		conn := l.dial(t)
		for size, want := range map[int]string{
			limit:      `OK "" header={content-type=["application/grpc"]} trailer=-`,
			limit + 1:  `ResourceExhausted "grpc: received message larger than max (100001 vs. 100000)" header=- trailer={content-type=["application/grpc"]}`,
			limit * 50: `ResourceExhausted "grpc: received message larger than max (5000000 vs. 100000)" header=- trailer={content-type=["application/grpc"]}`,
		} {
			if o := call(t, conn, "Unary", pattern(size)); o.String() != want {
				t.Errorf("%d bytes: %v, want %v", size, o, want)
			}
		}
		s := open(deadline(t), t, conn, "Bidi")
		say(t, s, pattern(limit))
		if out, err := hear(s); err != nil || len(out) != limit {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		_ = s.SendMsg(&message{pattern(limit + 1)}) // the server may have ended it meanwhile
		_, err := hear(s)
		if want := "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (100001 vs. 100000)"; fmt.Sprint(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
		if o := call(t, conn, "Unary", pattern(7)); o.status.Code() != codes.OK {
			t.Errorf("the connection serves no more: %v", o)
		}
	})
}

// TestManyCallsOnOneConnection has a thousand calls under way, which all wait for the last.
func TestManyCallsOnOneConnection(t *testing.T) {
	const calls = 1000
	both(t, func(t *testing.T, k kind) {
		var all sync.WaitGroup
		all.Add(calls)
		l := start(t, k, options{unary: func(_ context.Context, in []byte) ([]byte, error) {
			all.Done()
			all.Wait()
			return append([]byte("for "), in...), nil
		}})
		conn := l.dial(t)
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				in := fmt.Sprint(i)
				if o := call(t, conn, "Unary", []byte(in)); string(o.body) != "for "+in {
					t.Errorf("%s: %q, %v", in, o.body, o)
				}
			})
		}
		wg.Wait()
	})
}

// TestErrorsOfHandlers: what a client is told of each.
func TestErrorsOfHandlers(t *testing.T) {
	detailed, err := status.New(codes.FailedPrecondition, "not now").WithDetails(&errdetails.RetryInfo{}, &errdetails.ErrorInfo{Reason: "r", Domain: "d"})
	if err != nil {
		t.Fatal(err)
	}
	type example struct {
		name    string
		err     error
		code    codes.Code
		message string
	}
	examples := []example{
		{"a plain error is Unknown", errors.New("plain"), codes.Unknown, "plain"},
		{"the end of a file is Unknown", io.EOF, codes.Unknown, "EOF"},
		{"a wrapped status keeps its code and has the whole text", fmt.Errorf("while at it: %w", status.Error(codes.NotFound, "no such thing")), codes.NotFound, "while at it: rpc error: code = NotFound desc = no such thing"},
		{"a cancelled context", context.Canceled, codes.Canceled, "context canceled"},
		{"a context past its deadline", context.DeadlineExceeded, codes.DeadlineExceeded, "context deadline exceeded"},
		{"a wrapped deadline", fmt.Errorf("waited: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "waited: context deadline exceeded"},
		{"an empty text", status.Error(codes.Aborted, ""), codes.Aborted, ""},
		{"a text beyond ASCII", status.Error(codes.Internal, "größer 世界 🙂"), codes.Internal, "größer 世界 🙂"},
		{"a text with percent signs and line ends", status.Error(codes.Internal, "100%\r\n\t%41 \x00\x7f~"), codes.Internal, "100%\r\n\t%41 \x00\x7f~"},
		{"a text with spaces at its ends", status.Error(codes.Internal, "  in  "), codes.Internal, "  in  "},
		{"a text that is no UTF-8", status.Error(codes.Internal, "a\xff\xfeb"), codes.Internal, "a��b"},
		{"details", detailed.Err(), codes.FailedPrecondition, "not now"},
		{"a code that nobody knows", status.Error(codes.Code(77), "odd"), codes.Code(77), "odd"},
		{"a long text", status.Error(codes.Internal, string(bytes.Repeat([]byte("long "), 5000))), codes.Internal, string(bytes.Repeat([]byte("long "), 5000))},
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		examples = append(examples, example{"the code " + c.String(), status.Error(c, "why "+c.String()), c, "why " + c.String()})
	}
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{
			unary:  func(_ context.Context, in []byte) ([]byte, error) { return nil, examples[in[0]].err },
			stream: func(s grpc.ServerStream) error { in, _ := hear(s); return examples[in[0]].err },
		})
		conn := l.dial(t)
		for i, c := range examples {
			check := func(how string, got *status.Status) {
				if got.Code() != c.code || got.Message() != c.message {
					t.Errorf("%s, %s: %v %q", c.name, how, got.Code(), got.Message())
				}
				if c.name == "details" && len(got.Details()) != 2 {
					t.Errorf("%s, %s: %v", c.name, how, got.Details())
				}
			}
			o := call(t, conn, "Unary", []byte{byte(i)})
			check("unary", o.status)
			if len(o.header) != 0 || len(o.trailer["content-type"]) != 1 {
				t.Errorf("%s: not trailers alone: %v", c.name, o)
			}
			s := open(deadline(t), t, conn, "Bidi")
			say(t, s, []byte{byte(i)})
			_, err := hear(s)
			check("stream", status.Convert(err))
		}
	})
}

// TestMethodsThatAreNot: what a client is told that asks for one.
func TestMethodsThatAreNot(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		conn := l.dial(t)
		for path, want := range map[string]string{
			"/lab.Lab/Missing":      "unknown method Missing for service lab.Lab",
			"/lab.Lab/unary":        "unknown method unary for service lab.Lab",
			"/lab.Lab/":             "unknown method  for service lab.Lab",
			"/no.Such/Unary":        "unknown service no.Such",
			"/lab.Lab/Unary/":       "unknown service lab.Lab/Unary",
			"/deep/lab.Lab/Unary":   "unknown service deep/lab.Lab",
			"//":                    "unknown service ",
			"/":                     `malformed method name: "/"`,
			"/lab.Lab":              `malformed method name: "/lab.Lab"`,
			"/größe.Lab/Unary":      "unknown service größe.Lab",
			"/lab.Lab/Unary?a=b":    "unknown method Unary?a=b for service lab.Lab",
			"/lab.Lab/Sp ace%20\"'": "unknown method Sp ace%20\"' for service lab.Lab",
		} {
			o := callIn(deadline(t), conn, path, []byte("x"))
			if o.status.Code() != codes.Unimplemented || o.status.Message() != want || len(o.header) != 0 {
				t.Errorf("%s: %v, want %q", path, o, want)
			}
		}
	})
}

// TestCodecErrors: messages that the codec refuses.
func TestCodecErrors(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{
			unary: func(context.Context, []byte) ([]byte, error) { return []byte{badByte}, nil },
			stream: func(s grpc.ServerStream) error {
				if _, err := hear(s); err != nil {
					return err
				}
				return s.SendMsg(&message{[]byte{badByte}})
			},
		})
		conn := l.dial(t)
		const in, out = "grpc: failed to unmarshal the received message: a bad byte", "grpc: error while marshaling: a bad byte"
		check := func(name string, got *status.Status, want string) {
			if got.Code() != codes.Internal || got.Message() != want {
				t.Errorf("%s: %v %q, want %q", name, got.Code(), got.Message(), want)
			}
		}
		check("a bad request", call(t, conn, "Unary", []byte{badByte, 1}).status, in)
		check("a bad answer", call(t, conn, "Unary", []byte("fine")).status, out)
		check("a bad request that nobody looks at", call(t, conn, "Ignore", []byte{badByte, 1}).status, out)
		for _, c := range []struct {
			name, want string
			send       []byte
		}{{"a bad request in a stream", in, []byte{badByte}}, {"a bad answer in a stream", out, []byte("fine")}} {
			s := open(deadline(t), t, conn, "Bidi")
			say(t, s, c.send)
			_, err := hear(s)
			check(c.name, status.Convert(err), c.want)
		}
	})
}

// TestHandlersThatIgnoreTheirRequest answers at once, although the request is large and still on its way.
func TestHandlersThatIgnoreTheirRequest(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{maxRecv: 8 << 20, unary: func(ctx context.Context, in []byte) ([]byte, error) {
			if len(in) > 0 {
				return nil, errors.New("it looked")
			}
			return []byte("unseen"), grpc.SetTrailer(ctx, metadata.Pairs("t", "1"))
		}})
		conn := l.dial(t)
		for _, size := range []int{0, 1, 1 << 20, 8 << 20} {
			o := call(t, conn, "Ignore", pattern(size))
			if string(o.body) != "unseen" || o.String() != `OK "" header={content-type=["application/grpc"]} trailer={t=["1"]}` {
				t.Errorf("%d bytes: %q, %v", size, o.body, o)
			}
		}
	})
}

// TestServiceInfo: what is registered is told.
func TestServiceInfo(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		info := start(t, k, options{}).GetServiceInfo()
		lab, ok := info["lab.Lab"]
		if len(info) != 1 || !ok || len(lab.Methods) != 5 || lab.Metadata != "lab.proto" {
			t.Fatalf("%v", info)
		}
		for _, m := range lab.Methods {
			in, out := m.Name == "Client" || m.Name == "Bidi", m.Name == "Server" || m.Name == "Bidi"
			if m.IsClientStream != in || m.IsServerStream != out {
				t.Errorf("%v", m)
			}
		}
	})
}
