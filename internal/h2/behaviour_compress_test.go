package h2_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // both sides compress
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// onlyClient is a compressor that this process registers, so the server must be told of a name that nobody registers.
type onlyClient struct{}

func (onlyClient) Name() string { return "registered" }

func (onlyClient) Compress(w io.Writer) (io.WriteCloser, error) { return closer{w}, nil }

func (onlyClient) Decompress(r io.Reader) (io.Reader, error) { return r, nil }

type closer struct{ io.Writer }

func (closer) Close() error { return nil }

func init() { encoding.RegisterCompressor(onlyClient{}) }

// zipped is b as gzip has it.
func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

// compressed is a message whose flag says so.
func compressed(b []byte) []byte {
	m := enclosed(b)
	m[0] = 1
	return m
}

// TestCompressionBothWays: who compresses gets compressed answers.
func TestCompressionBothWays(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{maxRecv: 2 << 20})
		conn := l.dial(t)
		for _, size := range []int{0, 1, 1000, 100_000, 1 << 20} {
			var header metadata.MD
			o := call(t, conn, "Unary", pattern(size), grpc.UseCompressor("gzip"), grpc.Header(&header))
			if o.status.Code() != codes.OK || !bytes.Equal(o.body, pattern(size)) {
				t.Errorf("%d bytes: %d, %v", size, len(o.body), o)
			}
			s := open(deadline(t), t, conn, "Bidi", grpc.UseCompressor("gzip"))
			for range 3 {
				say(t, s, pattern(size))
				if out, err := hear(s); err != nil || !bytes.Equal(out, pattern(size)) {
					t.Errorf("%d bytes in a stream: %d, %v", size, len(out), err)
				}
			}
			_ = s.CloseSend()
			if _, err := hear(s); err != io.EOF {
				t.Error(err)
			}
			if md, _ := s.Header(); fmt.Sprint(md["content-type"]) != "[application/grpc]" {
				t.Errorf("header %v", md)
			}
			if o := call(t, conn, "Unary", pattern(size), grpc.UseCompressor("registered")); !bytes.Equal(o.body, pattern(size)) {
				t.Errorf("%d bytes through another compressor: %v", size, o)
			}
		}
		o := call(t, conn, "Unary", pattern(2<<20+1), grpc.UseCompressor("gzip"))
		want := "grpc: received message after decompression larger than max 2097152"
		if o.status.Code() != codes.ResourceExhausted || o.status.Message() != want {
			t.Errorf("a bomb: %v", o)
		}
	})
}

// TestCompressionOnTheWire: flags and names that fit and that do not.
func TestCompressionOnTheWire(t *testing.T) {
	const answered = `1: :status=200 content-type=application/grpc | "hi" | grpc-status=0`
	only := func(code, text string) string {
		return "1: :status=200 content-type=application/grpc grpc-status=" + code + " grpc-message=" + text
	}
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{stream: func(s grpc.ServerStream) error {
			_, err := hear(s)
			return err
		}})
		for _, c := range []struct {
			name     string
			encoding string
			body     []byte
			want     string
		}{
			{"nothing", "", enclosed([]byte("hi")), answered},
			{"identity", "identity", enclosed([]byte("hi")), answered},
			{"identity and a flag", "identity", compressed([]byte("hi")), only("13", "grpc: compressed flag set with identity or empty encoding")},
			{"no name and a flag", "", compressed([]byte("hi")), only("13", "grpc: compressed flag set with identity or empty encoding")},
			{"an unknown name", "snappy", enclosed([]byte("hi")), only("12", `grpc: Decompressor is not installed for grpc-encoding "snappy"`)},
			{"an unknown name and a flag", "snappy", compressed([]byte("hi")), only("12", `grpc: Decompressor is not installed for grpc-encoding "snappy"`)},
			{"an unknown flag", "gzip", append([]byte{2}, enclosed([]byte("hi"))[1:]...), only("13", "grpc: received unexpected payload format 2")},
			{"a stream that is no gzip", "gzip", compressed([]byte("hi")), only("13", "grpc: failed to decompress the message: unexpected EOF")},
			{"a stream that is cut", "gzip", compressed(zipped([]byte("a longer text"))[:20]), only("13", "grpc: failed to read decompressed data: unexpected EOF")},
			{"a sum that is wrong", "gzip", compressed(flipped(zipped([]byte("text")), -8)), only("13", "grpc: failed to read decompressed data: gzip: invalid checksum")},
		} {
			for _, method := range []string{"Unary", "Client"} {
				w := l.wire(t)
				var more []string
				if c.encoding != "" {
					more = []string{"grpc-encoding", c.encoding}
				}
				id := w.call(method, more...)
				w.data(id, c.body, true)
				w.ended(id)
				want := c.want
				if method == "Client" && want == answered {
					want = only("0", "")
					want = want[:len(want)-len(" grpc-message=")]
				}
				// What needs no message may be told before the message has come; then the rest of it is not wanted.
				if got := strings.TrimSuffix(w.verdict(), " | NO_ERROR"); got != want {
					t.Errorf("%s, %s:\n%s\nwant\n%s", c.name, method, got, want)
				}
			}
		}
		for _, c := range []struct {
			name, accept, want string
			body               []byte
		}{
			{"compressed", "gzip", "gzip", compressed(zipped([]byte("hi")))},
			{"compressed, and no word of what the client takes", "", "gzip", compressed(zipped([]byte("hi")))},
			{"a name alone", "gzip", "gzip", enclosed([]byte("hi"))},
		} {
			w := l.wire(t)
			more := []string{"grpc-encoding", "gzip"}
			if c.accept != "" {
				more = append(more, "grpc-accept-encoding", c.accept)
			}
			id := w.call("Unary", more...)
			w.data(id, c.body, true)
			w.ended(id)
			w.mu.Lock()
			heads, body := w.reply(id).heads, w.reply(id).data.Bytes()
			w.mu.Unlock()
			if len(heads) != 2 || heads[0] != ":status=200 content-type=application/grpc grpc-encoding="+c.want {
				t.Errorf("%s: %q", c.name, heads)
			}
			if len(body) < 5 || body[0] != 1 {
				t.Fatalf("%s: the answer is %q", c.name, body)
			}
			z, err := gzip.NewReader(bytes.NewReader(body[5:]))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := io.ReadAll(z); err != nil || string(out) != "hi" {
				t.Errorf("%s: %q, %v", c.name, out, err)
			}
		}
		// An empty answer is sent as it is, although the stream is compressed.
		w := l.wire(t)
		id := w.call("Unary", "grpc-encoding", "gzip")
		w.data(id, enclosed(nil), true)
		w.ended(id)
		if got := w.verdict(); got != `1: :status=200 content-type=application/grpc grpc-encoding=gzip | "" | grpc-status=0` {
			t.Errorf("an empty answer: %s", got)
		}
	})
}

// flipped is b with other bits in one byte, counted from the end.
func flipped(b []byte, at int) []byte {
	b[len(b)+at] ^= 0xff
	return b
}

// TestErrorsOfCompressedCalls are told as those of others.
func TestErrorsOfCompressedCalls(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{unary: func(context.Context, []byte) ([]byte, error) {
			return nil, status.Error(codes.NotFound, "no")
		}})
		o := call(t, l.dial(t), "Unary", []byte("x"), grpc.UseCompressor("gzip"))
		if want := `NotFound "no" header=- trailer={content-type=["application/grpc"]}`; o.String() != want {
			t.Errorf("%v, want %s", o, want)
		}
	})
}
