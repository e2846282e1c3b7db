package etcdfile

import (
	"fmt"
	"strings"
	"testing"
)

// A run that turns out to be too large was fetched for nothing, so the next ones are of a size that fits.
func TestAfterTheFirstRunNoneIsFetchedForNothing(t *testing.T) {
	t.Parallel()
	s := newState(t)
	const puts = 100
	for i := range puts {
		s.put(t, fmt.Sprintf("k%02d", (i*37)%puts), strings.Repeat("v", 100), 0)
	}
	c, err := Read(s.db)
	noError(t, err)
	defer func() { noError(t, c.Close()) }()
	c.recordsMax, c.bytesMax = puts, 1500 // some ten values

	k := &chunk{c: c, fit: c.recordsMax}
	noError(t, k.collect())
	if len(k.changes) != puts {
		t.Fatalf("collected %d changes, want %d", len(k.changes), puts)
	}
	loads := 0
	for from := 0; from < puts; loads++ {
		wanted := min(k.fit, puts-from)
		n, err := k.load(from)
		noError(t, err)
		if len(k.values) > c.bytesMax {
			t.Errorf("a run has %d bytes of values, may have %d", len(k.values), c.bytesMax)
		}
		if loads > 0 && n != wanted {
			t.Errorf("the run from %d on has %d changes; %d were fetched before", from, n, wanted)
		}
		from += n
	}
	if want := puts / 5; loads > want {
		t.Errorf("%d runs, want at most %d", loads, want)
	}
}
