package member

import (
	"testing"
	"time"
)

// TestAsManyLeasesEndAtATimeAsTheLogTakes runs a flow against a log that ends so many leases in each round of the lessor.
func TestAsManyLeasesEndAtATimeAsTheLogTakes(t *testing.T) {
	t.Parallel()
	perRound := expiryRate * int(expiryPause) / int(time.Second)
	for name, c := range map[string]struct {
		ends      int // in a round, at most
		wait      int // rounds that each takes
		most      int // under way, in the end
		leastDone int // in a second, in the end
	}{
		"a fast log is not held back":              {10 * perRound, 2, endingMax, expiryRate * 9 / 10},
		"one with a long way gets more":            {10 * perRound, 5, endingMax, expiryRate * 9 / 10},
		"a slow log is not filled before the rest": {20, 1, 20*8 + 2*burstMax, 20 * 100},
		"one that stands still":                    {0, 1, 2 * burstMax, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f flow
			var begun []int // in each round, from the oldest on
			under, done, most := 0, 0, 0
			const rounds = 500
			for i := range rounds {
				n := min(f.may(time.Duration(i)*expiryPause, under), perRound)
				f.begin(n)
				under += n
				begun = append(begun, n)
				left := c.ends
				for j := 0; j <= i-c.wait && left > 0; j++ {
					gone := min(begun[j], left)
					begun[j] -= gone
					left -= gone
					under -= gone
					if i >= rounds/2 {
						done += gone
					}
				}
				if i >= rounds/2 {
					most = max(most, under)
				}
			}
			if most > c.most {
				t.Errorf("%d are under way, want %d at most", most, c.most)
			}
			if perSecond := done * int(time.Second/expiryPause) / (rounds / 2); perSecond < c.leastDone {
				t.Errorf("%d end in a second, want %d", perSecond, c.leastDone)
			}
		})
	}
}
