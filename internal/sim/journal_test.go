package sim

import (
	"bytes"
	"testing"
)

// TestAWorldIsRepeatable: what happens in one follows from its seed alone, however its goroutines and those of others are scheduled.
func TestAWorldIsRepeatable(t *testing.T) {
	t.Parallel()
	for seed, members := range map[int64]int{1: 3, 3: 3, 4: 1, 5: 3, 7: 3, 11: 3} {
		var first []byte
		for run := range 2 {
			var b bytes.Buffer
			t.Run("", func(t *testing.T) {
				w := New(t, seed, members)
				w.etcdFiles = seed == 11
				journal := w.Journal(&b)
				for _, h := range w.hosts {
					h.start()
				}
				t.Cleanup(w.stopAll)
				w.Run(4_000)
				w.Settle()
				w.Run(1_000)
				if err := journal.Flush(); err != nil {
					t.Fatal(err)
				}
			})
			if run == 0 {
				first = b.Bytes()
				continue
			}
			one, other := bytes.Split(first, []byte("\n")), bytes.Split(b.Bytes(), []byte("\n"))
			for i := range min(len(one), len(other)) {
				if !bytes.Equal(one[i], other[i]) {
					t.Errorf("seed %d:\n%s\nand\n%s", seed, one[i], other[i])
					break
				}
			}
			if len(one) != len(other) {
				t.Errorf("seed %d has taken %d steps and %d", seed, len(one), len(other))
			}
		}
	}
}
