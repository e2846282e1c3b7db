package h2_test

import (
	"bytes"
	"io"
	"testing"

	"google.golang.org/grpc"
)

// appended is a message that can be encoded where it is written from. It counts how it was.
type appended struct {
	data         []byte
	coded, there int
}

func (a *appended) Length() int { return len(a.data) }

func (a *appended) AppendTo(dst []byte) []byte {
	a.there++
	return append(dst, a.data...)
}

// TestMessagesAreAppendedWhereTheyAreWrittenFrom: those that cannot be are for the codec, and the client sees no difference.
func TestMessagesAreAppendedWhereTheyAreWrittenFrom(t *testing.T) {
	t.Parallel()
	const window = 64 << 10
	small, large := pattern(1000), pattern(20<<10)
	for name, c := range map[string]struct {
		messages [][]byte
		atOnce   bool // the client reads none before all are sent
		opts     []grpc.CallOption
		there    int
	}{
		"but for the first":                     {messages: [][]byte{small, small, nil, small}, there: 3},
		"but for those longer than a frame":     {messages: [][]byte{small, large, small, large}, there: 1},
		"but for those to be compressed":        {messages: [][]byte{small, small, small}, opts: []grpc.CallOption{grpc.UseCompressor("gzip")}},
		"but for what the window does not take": {messages: slabs(12, 8<<10), atOnce: true, there: window/(8<<10+5) - 1},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, k kind) {
				var sent []*appended
				all := make(chan struct{})
				l := start(t, k, options{stream: func(s grpc.ServerStream) error {
					defer close(all)
					for _, data := range c.messages {
						if !c.atOnce {
							if err := s.RecvMsg(new(message)); err != nil {
								return err
							}
						}
						a := &appended{data: data}
						sent = append(sent, a)
						if err := s.SendMsg(a); err != nil {
							return err
						}
					}
					return nil
				}})
				conn := l.dial(t, grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(1<<20))
				s := open(deadline(t), t, conn, "Bidi", c.opts...)
				if c.atOnce {
					if err := s.SendMsg(new(message)); err != nil { // begins the call
						t.Fatal(err)
					}
					receive(t, "the end of the handler", all)
				}
				for i, want := range c.messages {
					if !c.atOnce {
						say(t, s, nil)
					}
					if got, err := hear(s); err != nil || !bytes.Equal(got, want) {
						t.Fatalf("message %d: %d bytes, %v, want %d", i, len(got), err, len(want))
					}
				}
				if _, err := hear(s); err != io.EOF {
					t.Error(err)
				}
				<-all
				there := 0
				for i, a := range sent {
					if there += a.there; a.there+a.coded != 1 {
						t.Errorf("message %d was appended %d times, and encoded by the codec %d times", i, a.there, a.coded)
					}
				}
				want := c.there
				if k.name != "h2" {
					want = 0
				}
				if there != want {
					t.Errorf("%d messages were appended, want %d", there, want)
				}
			})
		})
	}
}

// slabs are n messages of so many bytes.
func slabs(n, size int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = pattern(size + i)
	}
	return out
}
