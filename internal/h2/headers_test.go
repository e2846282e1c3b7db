package h2

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"pgregory.net/rapid"
)

func lab() *Server {
	s := NewServer(Options{})
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "a.B", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "C"}}}, struct{}{})
	return s
}

// sender is the other end of a connection's headers.
type sender struct {
	b   bytes.Buffer
	enc *hpack.Encoder
}

func newSender() *sender {
	s := &sender{}
	s.enc = hpack.NewEncoder(&s.b)
	return s
}

func (s *sender) block(t rapid.TB, fields ...hpack.HeaderField) []byte {
	s.b.Reset()
	for _, f := range fields {
		if err := s.enc.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Clone(s.b.Bytes())
}

func plain(more ...string) []hpack.HeaderField {
	all := append([]string{":method", "POST", ":scheme", "http", ":path", "/a.B/C", ":authority", "x", "content-type", "application/grpc"}, more...)
	var out []hpack.HeaderField
	for i := 0; i < len(all); i += 2 {
		out = append(out, hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return out
}

// TestARequestFoundAgainIsTheOneDecoded sends random headers, many of them again, with tables of all sizes, through one reader of headers; what
// it finds is what a reader without memory reads.
func TestARequestFoundAgainIsTheOneDecoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		srv, ctx := lab(), context.Background()
		h, from := newHeaders(srv, ctx), newSender()
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			if rapid.IntRange(0, 15).Draw(t, "resize") == 0 {
				from.enc.SetMaxDynamicTableSize(rapid.SampledFrom([]uint32{0, 60, 200, 4096}).Draw(t, "table"))
			}
			fields := plain()
			for range rapid.IntRange(0, 4).Draw(t, "metadata") {
				fields = append(fields, hpack.HeaderField{
					Name: fmt.Sprint("k", rapid.IntRange(0, 3).Draw(t, "key")), Value: strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 40, 900}).Draw(t, "value")),
					Sensitive: rapid.IntRange(0, 9).Draw(t, "sensitive") == 0,
				})
			}
			if rapid.Bool().Draw(t, "timed") {
				fields = append(fields, hpack.HeaderField{Name: timeoutHeader, Value: fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "timeout"), "S")})
			}
			got, err := h.read(from.block(t, fields...))
			if err != nil {
				t.Fatal(err)
			}
			want := srv.readHead(ctx, fields)
			compare(t, got, want)
		}
		if len(h.heads) > headsMax || len(h.cache) > blocksMax {
			t.Fatalf("%d heads and %d blocks are kept", len(h.heads), len(h.cache))
		}
	})
}

func compare(t *rapid.T, got request, want *reading) {
	a, _ := metadata.FromIncomingContext(got.head.ctx)
	b, _ := metadata.FromIncomingContext(want.ctx)
	if !maps.EqualFunc(a, b, slices.Equal[[]string]) {
		t.Fatalf("metadata %v, want %v", a, b)
	}
	if got.timed != want.timed || got.timeout != want.timeout || got.head.method != want.method || got.head.path != want.path {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

func TestHeadersThatClientsRepeatAreFoundByTheirBytes(t *testing.T) {
	t.Parallel()
	h, from := newHeaders(lab(), context.Background()), newSender()
	read := func(fields []hpack.HeaderField) *head {
		t.Helper()
		r, err := h.read(from.block(t, fields...))
		if err != nil || r.head == nil || r.head.method == nil {
			t.Fatal(r, err)
		}
		return r.head
	}
	first, second := read(plain("token", "t")), read(plain("token", "t"))
	if len(h.cache) != 1 || first != second || read(plain("token", "t")) != first {
		t.Errorf("%d blocks are known, heads %p, %p", len(h.cache), first, second)
	}
	if other := read(plain("token", "u")); other == first || len(h.cache) != 0 {
		t.Errorf("a changed table left %d blocks", len(h.cache))
	}
	if timed := read(plain("token", "t", timeoutHeader, "1S")); timed != first {
		t.Error("a deadline made another head")
	}
}

func TestHeadersThatHTTP2ForbidsResetTheStream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fields []hpack.HeaderField
		want   code
	}{
		"a name in upper case":            {plain("Upper", "x"), codeProtocol},
		"a name with a space":             {plain("a b", "x"), codeProtocol},
		"a value with a line end":         {plain("a", "x\ny"), codeProtocol},
		"a pseudo header after others":    {plain(":path", "/x"), codeProtocol},
		"a pseudo header twice":           {append([]hpack.HeaderField{{Name: ":path", Value: "/x"}}, plain()...), codeProtocol},
		"a pseudo header of responses":    {append([]hpack.HeaderField{{Name: ":status", Value: "200"}}, plain()...), codeProtocol},
		"more than the limit":             {plain("a", strings.Repeat("x", headerListMax/2), "b", strings.Repeat("x", headerListMax/2)), codeFrameSize},
		"all that a request usually has":  {plain("te", "trailers", "user-agent", "x"), codeNo},
		"a name that nobody else may use": {plain("", "x"), codeProtocol},
	} {
		h, from := newHeaders(lab(), context.Background()), newSender()
		if r, err := h.read(from.block(t, c.fields...)); err != nil || r.reset != c.want {
			t.Errorf("%s: %v, %v", name, r.reset, err)
		}
		// The table is the same on both sides afterwards.
		if r, err := h.read(from.block(t, plain()...)); err != nil || r.head.method == nil {
			t.Errorf("after %s: %v, %v", name, r, err)
		}
	}
	if _, err := newHeaders(lab(), context.Background()).read([]byte{0xff}); codeOf(err) != codeCompression {
		t.Error(err)
	}
}

// FuzzHeaders reads any two blocks, the second one twice: what is found again is what was read.
func FuzzHeaders(f *testing.F) {
	from := newSender()
	f.Add(from.block(nil, plain()...), from.block(nil, plain()...))
	f.Add(from.block(nil, plain(timeoutHeader, "1S")...), []byte{0x82})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		h := newHeaders(lab(), context.Background())
		if _, err := h.read(a); err != nil {
			return
		}
		kind := scanBlock(b)
		once, err := h.read(b)
		if err != nil || kind != scanIndexed {
			return
		}
		twice, err := h.read(b)
		if err != nil || once.reset != twice.reset || once.timeout != twice.timeout || (once.head == nil) != (twice.head == nil) {
			t.Fatalf("%+v, then %+v, %v", once, twice, err)
		}
		if once.head != nil && !slices.Equal(once.head.fields, twice.head.fields) {
			t.Fatalf("%v, then %v", once.head.fields, twice.head.fields)
		}
	})
}

func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"1H", "99999999H", "20S", "5m", "7u", "0n", "S", "1x", "123456789S", "-1S", "+1S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseTimeout(s)
		if err != nil {
			if d != 0 {
				t.Fatalf("%q is %v and %v", s, d, err)
			}
			return
		}
		if d < 0 || len(s) < 2 || len(s) > timeoutCharsMax {
			t.Fatalf("%q is %v", s, d)
		}
		if s[len(s)-1] == 'S' && d%time.Second != 0 {
			t.Fatalf("%q is %v", s, d)
		}
	})
}
