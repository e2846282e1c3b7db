package h2

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// FuzzScan compares what a look at a block tells with what decoding it does: one that is said to keep the table keeps it, and one of
// references alone means the same each time.
func FuzzScan(f *testing.F) {
	f.Add([]byte{0x82, 0x87, 0xbe})
	f.Add([]byte{0xff, 0x01, 0x84})
	f.Add([]byte{0x00, 1, 'a', 1, 'b', 0x0f, 0x10, 0})
	f.Add([]byte{0x40, 1, 'a', 1, 'b'})
	f.Add([]byte{0x20, 0x82})
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x82})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind := scanBlock(b)
		if kind == scanChanging {
			return
		}
		newest := func(d *hpack.Decoder) []hpack.HeaderField {
			var out []hpack.HeaderField
			for i := range byte(3) {
				got, err := d.DecodeFull([]byte{0x80 | (firstDynamic + i)})
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, got...)
			}
			return out
		}
		d := seeded(t)
		before := newest(d)
		once, err := d.DecodeFull(b)
		if err != nil {
			if again, err := seeded(t).DecodeFull(b); err == nil {
				t.Fatalf("the error went away: %v", again)
			}
			return
		}
		if after := newest(d); !slices.Equal(before, after) {
			t.Fatalf("kind %d changed the table: %v, %v", kind, before, after)
		}
		twice, err := d.DecodeFull(b)
		if err != nil || !slices.Equal(once, twice) {
			t.Fatalf("%v, then %v, %v", once, twice, err)
		}
		if kind == scanIndexed && bytes.ContainsFunc(b[:min(1, len(b))], func(r rune) bool { return r < 0x80 }) {
			t.Fatal("a literal among references")
		}
	})
}

// seeded is a decoder with three entries in its table.
func seeded(t *testing.T) *hpack.Decoder {
	t.Helper()
	d := hpack.NewDecoder(tableBytes, nil)
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, name := range []string{"x", "y", "z"} {
		if err := e.WriteField(hpack.HeaderField{Name: name, Value: "v"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.DecodeFull(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return d
}
