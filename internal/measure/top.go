package measure

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// Top finds the names that cost most among any number of them, in the memory of a fixed number: the space-saving sketch of
// Metwally, Agrawal and El Abbadi. A name that has no place takes that of the cheapest, and with it its cost: what is told of a name is at
// most that too high, and a name that costs more than all that was added divided by the number of places is always among them.
type Top struct {
	mu     sync.Mutex
	places map[string]*Cost
	max    int
}

// Cost is what is known of a name.
type Cost struct {
	// Name is what the cost is of.
	Name string
	// Requests and Bytes are the sums of what was added, and what the place held before when the name took it.
	Requests, Bytes uint64
	// Over is how much of Bytes may be of other names.
	Over uint64
}

// NewTop returns a sketch with a number of places, at least one.
func NewTop(places int) *Top { return &Top{places: make(map[string]*Cost, places), max: places} }

// Add adds requests and bytes to a name, which is copied when it is new. It costs a lock and a look into a map, and for a new
// name a walk through all places: sample before.
func (t *Top) Add(name []byte, requests, bytes uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.places[string(name)]
	if c == nil {
		c = t.place(string(name))
	}
	c.Requests += requests
	c.Bytes += bytes
}

// place gives a new name a place. REQUIRES: t.mu.
func (t *Top) place(name string) *Cost {
	c := &Cost{Name: name}
	if len(t.places) >= t.max {
		var least *Cost
		for _, x := range t.places {
			if least == nil || x.less(least) {
				least = x
			}
		}
		delete(t.places, least.Name)
		c.Requests, c.Bytes, c.Over = least.Requests, least.Bytes, least.Bytes
	}
	t.places[name] = c
	return c
}

// less orders by bytes, and by name where those are equal, so that the sketch does not depend on the order of a map.
func (c *Cost) less(d *Cost) bool {
	if c.Bytes != d.Bytes {
		return c.Bytes < d.Bytes
	}
	return c.Name < d.Name
}

// Most returns the n names that cost most bytes, the dearest first.
func (t *Top) Most(n int) []Cost {
	t.mu.Lock()
	all := make([]Cost, 0, len(t.places))
	for _, c := range t.places {
		all = append(all, *c)
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b Cost) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name))
	})
	return all[:min(n, len(all))]
}
