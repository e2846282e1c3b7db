package h2_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// seen is what a handler was handed as metadata, without what depends on the run.
func seen(ctx context.Context, leave ...string) string {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return "no metadata"
	}
	md = md.Copy()
	for _, k := range leave {
		delete(md, k)
	}
	return told(md)
}

// TestMetadataOfRequests: what a handler sees of what a client sends.
func TestMetadataOfRequests(t *testing.T) {
	const always = `:authority=["lab"] content-type=["application/grpc"] `
	agent := fmt.Sprintf(`user-agent=["lab grpc-go/%s"]`, grpc.Version)
	both(t, func(t *testing.T, k kind) {
		saw := make(chan string, 1)
		l := start(t, k, options{
			unary: func(ctx context.Context, in []byte) ([]byte, error) {
				saw <- seen(ctx, "grpc-accept-encoding")
				return in, nil
			},
			stream: func(s grpc.ServerStream) error { saw <- seen(s.Context(), "grpc-accept-encoding"); return nil },
		})
		conn := l.dial(t, grpc.WithAuthority("lab"), grpc.WithUserAgent("lab"))
		for _, c := range []struct {
			name, want string
			send       []string
		}{
			{"none", "", nil},
			{"one", `k=["v"] `, []string{"k", "v"}},
			{"names become small", `big-name=["V"] `, []string{"BIG-Name", "V"}},
			{"a key more than once keeps its order", `k=["3" "1" "2"] `, []string{"k", "3", "k", "1", "k", "2"}},
			{"an empty value", `k=[""] `, []string{"k", ""}},
			{"binary values", `a-bin=["\x00\xff\x80" "" "abc"] `, []string{"a-bin", "\x00\xff\x80", "a-bin", "", "a-bin", "abc"}},
			{"a binary value with a comma", `a-bin=["a,b"] `, []string{"a-bin", "a,b"}},
			{"a long value", `k=["` + strings.Repeat("x", 20_000) + `"] `, []string{"k", strings.Repeat("x", 20_000)}},
			{"odd names", `0_9.z-=["v"] `, []string{"0_9.z-", "v"}},
			{"words that look like ours", `authorization=["Bearer x"] token=["t"] `, []string{"authorization", "Bearer x", "token", "t"}},
			{"reserved names do not come through", `grpc-foo=["v"] `, []string{"grpc-foo", "v", "grpc-status", "3", "content-type", "text/html", "te", "no"}},
		} {
			want := []string{}
			for range 3 { // the third time the block is of indexed fields alone
				ctx := metadata.AppendToOutgoingContext(deadline(t), c.send...)
				if o := callIn(ctx, conn, "/lab.Lab/Unary", nil); o.status.Code() != codes.OK {
					t.Errorf("%s: %v", c.name, o)
					continue
				}
				want = append(want, receive(t, c.name, saw))
				s := open(ctx, t, conn, "Bidi")
				_, _ = hear(s)
				want = append(want, receive(t, c.name, saw))
			}
			for i, got := range want {
				if exact := sorted(always + c.want + agent); got != exact {
					t.Errorf("%s, call %d: %s, want %s", c.name, i, got, exact)
				}
			}
		}
	})
}

// sorted puts the parts of metadata in the order of told.
func sorted(parts string) string {
	list := strings.SplitAfter(parts, "] ")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	return "{" + strings.Join(list, " ") + "}"
}

// TestMetadataBelongsToItsCall: a handler that changes its metadata changes nobody else's.
func TestMetadataBelongsToItsCall(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{unary: func(ctx context.Context, _ []byte) ([]byte, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			out := fmt.Append(nil, md["k"], metadata.ValueFromIncomingContext(ctx, "K"), len(md))
			md["k"][0] = "changed"
			md["new"] = []string{"v"}
			delete(md, "user-agent")
			return out, nil
		}})
		conn := l.dial(t)
		first := ""
		for range 10 {
			o := callIn(metadata.AppendToOutgoingContext(deadline(t), "k", "v"), conn, "/lab.Lab/Unary", nil)
			if first == "" {
				first = string(o.body)
			}
			if !strings.HasPrefix(string(o.body), "[v][v]") && !strings.HasPrefix(string(o.body), "[v] [v]") || string(o.body) != first {
				t.Fatalf("%q after %q, %v", o.body, first, o)
			}
		}
	})
}

// step is one act of a handler upon its header and trailer; it returns what the act said.
type step func(ctx context.Context, s grpc.ServerStream) error

func setHeader(kv ...string) step {
	return func(ctx context.Context, s grpc.ServerStream) error {
		if s != nil {
			return s.SetHeader(metadata.Pairs(kv...))
		}
		return grpc.SetHeader(ctx, metadata.Pairs(kv...))
	}
}

func sendHeader(kv ...string) step {
	return func(ctx context.Context, s grpc.ServerStream) error {
		if s != nil {
			return s.SendHeader(metadata.Pairs(kv...))
		}
		return grpc.SendHeader(ctx, metadata.Pairs(kv...))
	}
}

func setTrailer(kv ...string) step {
	return func(ctx context.Context, s grpc.ServerStream) error {
		if s != nil {
			s.SetTrailer(metadata.Pairs(kv...))
			return nil
		}
		return grpc.SetTrailer(ctx, metadata.Pairs(kv...))
	}
}

func fail(context.Context, grpc.ServerStream) error { return errors.New("failed") }

// headerCases are handlers that send headers and trailers, and what a client sees of them; CT stands for the content-type.
var headerCases = []struct {
	name            string
	steps           []step
	header, trailer string
	said            string // the errors of the steps
}{
	{"nothing", nil, "{CT}", "-", ""},
	{"a header", []step{setHeader("a", "1")}, `{a=["1"] CT}`, "-", ""},
	{"headers are joined", []step{setHeader("a", "1"), setHeader("a", "2", "b", "3")}, `{a=["1" "2"] b=["3"] CT}`, "-", ""},
	{"headers are joined with those sent", []step{setHeader("a", "1"), sendHeader("a", "2")}, `{a=["1" "2"] CT}`, "-", ""},
	{"binary headers", []step{setHeader("a-bin", "\x00\xff", "a-bin", "")}, `{a-bin=["\x00\xff" ""] CT}`, "-", ""},
	{"a trailer", []step{setTrailer("t", "1")}, "{CT}", `{t=["1"]}`, ""},
	{"trailers are joined", []step{setTrailer("t", "1"), setTrailer("t", "2", "u-bin", "\x80")}, "{CT}", `{t=["1" "2"] u-bin=["\x80"]}`, ""},
	{"reserved names stay inside", []step{setHeader("grpc-foo", "1", ":status", "404", "content-type", "text/html", "h", "1"),
		setTrailer("grpc-status", "5", "grpc-message", "m", "te", "x", "t", "1")}, `{CT grpc-foo=["1"] h=["1"]}`, `{t=["1"]}`, ""},
	{"headers are sent once", []step{sendHeader("a", "1"), sendHeader("b", "2"), setHeader("c", "3"), setTrailer("t", "1")}, `{a=["1"] CT}`, `{t=["1"]}`,
		"transport: SendHeader called multiple times|transport: SendHeader called multiple times"},
	{"nothing is always allowed", []step{sendHeader(), setHeader(), setTrailer()}, "{CT}", "-", ""},
	{"an error alone is of trailers alone", []step{fail}, "-", "{CT}", "failed"},
	{"an error after a header has both", []step{setHeader("a", "1"), fail}, `{a=["1"] CT}`, "-", "failed"},
	{"an error with a trailer alone", []step{setTrailer("t", "1"), fail}, "-", `{CT t=["1"]}`, "failed"},
	{"an error after a header was sent", []step{sendHeader("a", "1"), setTrailer("t", "1"), fail}, `{a=["1"] CT}`, `{t=["1"]}`, "failed"},
}

// TestHeadersAndTrailers runs each case as a unary handler, as a stream, and with the steps in an interceptor.
func TestHeadersAndTrailers(t *testing.T) {
	run := func(ctx context.Context, s grpc.ServerStream, n byte) error {
		c := headerCases[n]
		var said []string
		for _, step := range c.steps {
			if err := step(ctx, s); err != nil {
				said = append(said, status.Convert(err).Message())
			}
		}
		if len(said) == 0 {
			return nil
		}
		return errors.New(strings.Join(said, "|"))
	}
	// finish turns what the steps said into an answer, or into an error where the case is one.
	finish := func(err error) ([]byte, error) {
		if err != nil && !strings.HasSuffix(err.Error(), "failed") {
			return []byte(err.Error()), nil
		}
		return nil, err
	}
	both(t, func(t *testing.T, k kind) {
		handlers := options{
			unary: func(ctx context.Context, in []byte) ([]byte, error) { return finish(run(ctx, nil, in[0])) },
			stream: func(s grpc.ServerStream) error {
				in, err := hear(s)
				if err != nil {
					return err
				}
				out, err := finish(run(s.Context(), s, in[0]))
				if err != nil {
					return err
				}
				return s.SendMsg(&message{out})
			},
		}
		l := start(t, k, handlers)
		intercepted := start(t, k, options{
			unaryInterceptor: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				out, err := finish(run(ctx, nil, req.(*message).data[0]))
				if err != nil {
					return nil, err
				}
				if _, err := next(ctx, req); err != nil {
					return nil, err
				}
				return &message{out}, nil
			},
			stream: handlers.stream,
			streamInterceptor: func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				return next(srv, s)
			},
		})
		for how, conn := range map[string]*grpc.ClientConn{"handler": l.dial(t), "interceptor": intercepted.dial(t)} {
			for i, c := range headerCases {
				ct := strings.NewReplacer("CT", `content-type=["application/grpc"]`)
				want := fmt.Sprintf(" header=%s trailer=%s", ct.Replace(c.header), ct.Replace(c.trailer))
				code := codes.OK
				if strings.HasSuffix(c.said, "failed") {
					code = codes.Unknown
				}
				o := call(t, conn, "Unary", []byte{byte(i)})
				if o.status.Code() != code || !strings.HasSuffix(o.String(), want) || code == codes.OK && string(o.body) != c.said {
					t.Errorf("%s, unary %s: %v %q, want%s %q", c.name, how, o, o.body, want, c.said)
				}
				s := open(deadline(t), t, conn, "Bidi")
				say(t, s, []byte{byte(i)})
				out, err := hear(s)
				if err == nil {
					_ = s.CloseSend()
					_, _ = hear(s)
				}
				header, _ := s.Header()
				got := fmt.Sprintf(" header=%s trailer=%s", told(header), told(s.Trailer()))
				if status.Code(err) != code || got != want || code == codes.OK && string(out) != c.said {
					t.Errorf("%s, stream %s: %v %q %s, want%s %q", c.name, how, err, out, got, want, c.said)
				}
			}
		}
	})
}

// TestHeadersComeBeforeTheAnswer: a client has the header that was sent while the handler still works.
func TestHeadersComeBeforeTheAnswer(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		release := make(chan struct{})
		l := start(t, k, options{
			stream: func(s grpc.ServerStream) error {
				if err := s.SendHeader(metadata.Pairs("early", "1")); err != nil {
					return err
				}
				<-release
				return nil
			},
		})
		s := open(deadline(t), t, l.dial(t), "Bidi")
		header, err := s.Header()
		if err != nil || len(header["early"]) != 1 {
			t.Errorf("%v, %v", header, err)
		}
		close(release)
		if _, err := hear(s); err == nil {
			t.Error("a message from nowhere")
		}
	})
}
