package ctl

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"
)

// plainSums adds up with a map what prefixSums adds up while keys pass.
func plainSums(root, separator string, depth int, keys []string) map[string]usageLine {
	out := map[string]usageLine{root: {Prefix: root}}
	add := func(prefix string, size int) {
		l := out[prefix]
		out[prefix] = usageLine{Prefix: prefix, Keys: l.Keys + 1, Bytes: l.Bytes + int64(size)}
	}
	for _, k := range keys {
		add(root, len(k)+1)
		rest := k[len(root):]
		for at, level := 0, 0; level < depth; level++ {
			lead := 0
			if root == "" && at == 0 && strings.HasPrefix(rest, separator) {
				lead = len(separator)
			}
			i := strings.Index(rest[at+lead:], separator)
			if i < 0 {
				break
			}
			at += lead + i + len(separator)
			add(root+rest[:at], len(k)+1)
		}
	}
	return out
}

func TestSumsOfPrefixesAreThoseOfAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		root := rapid.SampledFrom([]string{"", "a", "/", "a/"}).Draw(t, "root")
		separator := rapid.SampledFrom([]string{"/", "//"}).Draw(t, "separator")
		depth := rapid.IntRange(0, 4).Draw(t, "depth")
		set := map[string]bool{}
		for _, k := range rapid.SliceOf(rapid.StringOfN(rapid.RuneFrom([]rune("ab/")), 0, 8, -1)).Draw(t, "keys") {
			set[root+k] = true
		}
		keys := slices.Sorted(maps.Keys(set))
		got := map[string]usageLine{}
		var order []string
		sums := &prefixSums{root: root, separator: []byte(separator), depth: depth, out: func(l usageLine) error {
			if _, twice := got[l.Prefix]; twice && l.Prefix != root {
				t.Fatalf("%q comes twice", l.Prefix)
			}
			got[l.Prefix], order = l, append(order, l.Prefix)
			return nil
		}}
		for _, k := range keys {
			if err := sums.add(&mvccpb.KeyValue{Key: []byte(k), Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
			if len(sums.open) > depth {
				t.Fatalf("%d sums are open at depth %d", len(sums.open), depth)
			}
		}
		if err := sums.end(); err != nil {
			t.Fatal(err)
		}
		if want := plainSums(root, separator, depth, keys); !maps.Equal(got, want) {
			t.Fatalf("%q: got %v, want %v", keys, got, want)
		}
		for i, p := range order { // what is below a prefix comes before it
			for _, later := range order[i+1:] {
				if later != p && strings.HasPrefix(later, p) {
					t.Fatalf("%q comes before %q", p, later)
				}
			}
		}
	})
}
