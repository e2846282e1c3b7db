package rpc

import (
	"testing"
	"time"
)

func TestPagesThatComeFastWalkFar(t *testing.T) {
	t.Parallel()
	type page struct {
		after time.Duration // the one before
		bytes int
		far   bool
	}
	cases := map[string][]page{
		"one is as large":                      {{0, 100, true}},
		"a little less is not enough":          {{0, 99, false}},
		"several come together":                {{0, 50, false}, {time.Millisecond, 49, false}, {time.Millisecond, 1, true}},
		"it begins anew":                       {{0, 150, true}, {0, 99, false}, {0, 1, true}},
		"within a second":                      {{0, 50, false}, {stridesFor - 1, 50, true}},
		"not in one second and the next":       {{0, 50, false}, {stridesFor, 50, false}, {stridesFor - 1, 50, true}},
		"what is too slow does not count ever": {{0, 99, false}, {stridesFor, 99, false}, {stridesFor, 99, false}},
	}
	for name, pages := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s strides
			now := time.Unix(1, 0)
			for i, p := range pages {
				now = now.Add(p.after)
				if got := s.far(p.bytes, 100, now); got != p.far {
					t.Errorf("page %d: far is %t", i, got)
				}
			}
		})
	}
}
