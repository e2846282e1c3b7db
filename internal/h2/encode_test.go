package h2

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// written takes the header blocks off what a connection has to write.
func written(t *testing.T, c *conn, d *hpack.Decoder) (lists [][]string) {
	t.Helper()
	var block []byte
	for b := c.out; len(b) > 0; {
		f := parseFrame(b)
		p := b[headerBytes:][:f.length]
		b = b[headerBytes+f.length:]
		if f.kind != kindHeaders && f.kind != kindContinuation {
			continue
		}
		if block = append(block, p...); !f.has(flagEndHeaders) {
			continue
		}
		got, err := d.DecodeFull(block)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, h := range got {
			list = append(list, h.Name+"="+h.Value)
		}
		lists, block = append(lists, list), nil
	}
	c.out = nil
	return lists
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	t.Parallel()
	for _, table := range []uint32{4096, 1 << 16, 100, 0} {
		c := &conn{}
		c.output.begin()
		d := hpack.NewDecoder(4096, nil)
		long := strings.Repeat("x", 40_000)
		answer := func(h *head, header, trailer metadata.MD, st *status.Status) {
			s := &stream{head: h, header: header, trailer: trailer, status: st}
			if header != nil || st == okStatus {
				s.begun = c.appendHeaders(s)
			}
			if !c.appendTrailers(s) {
				t.Error("refused")
			}
		}
		answer(&head{}, nil, nil, okStatus)
		c.table.resize(table)
		answer(&head{}, metadata.Pairs("a", "1", "b-bin", "\x00\x01"), metadata.Pairs("te", "no", "c", long), okStatus)
		answer(&head{subtype: "proto"}, nil, nil, status.New(codes.NotFound, "ä%"))
		answer(&head{}, nil, nil, okStatus)
		got := written(t, c, d)
		for _, l := range got {
			slices.Sort(l[min(2, len(l)):])
		}
		plain := []string{":status=200", "content-type=application/grpc"}
		ok := []string{"grpc-status=0", "grpc-message="}
		want := [][]string{plain, ok, append(slices.Clone(plain), "a=1", "b-bin=AAE"), append(slices.Clone(ok), "c="+long),
			{":status=200", "content-type=application/grpc+proto", "grpc-message=%C3%A4%25", "grpc-status=5"}, plain, ok}
		if !slices.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("with a table of %d: %.300v", table, got)
		}
	}
}

func TestHeadersThatAClientDoesNotTakeAreNotSent(t *testing.T) {
	t.Parallel()
	c := &conn{}
	c.output.begin()
	c.listMax = 150
	s := &stream{head: &head{}, header: metadata.Pairs("long", strings.Repeat("x", 100))}
	if c.appendHeaders(s) || len(c.out) > 0 {
		t.Errorf("%d bytes were sent", len(c.out))
	}
	// Both tables still agree.
	s.header = nil
	d := hpack.NewDecoder(4096, nil)
	for range 2 {
		if !c.appendHeaders(s) {
			t.Fatal("refused")
		}
		if got := written(t, c, d); len(got) != 1 || len(got[0]) != 2 {
			t.Errorf("%v", got)
		}
	}
}

func TestMessagesAreEncodedAsGRPCHasThem(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "plain": "plain", "50%": "50%25", "a\nb": "a%0Ab", "ä": "%C3%A4", "\xff": "%EF%BF%BD", "~ \x7f": "~ %7F"} {
		if got := encodeMessage(in); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
}
