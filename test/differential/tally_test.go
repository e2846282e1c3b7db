package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tally counts what was compared.
type tally struct {
	done    map[string]*count
	skips   map[string]int
	results int // compared
	states  int // compared
	hashes  int // compared
	logs    int
}

type count struct{ done, refused int }

func (t *tally) entry(name string, refused bool) {
	if t.done == nil {
		t.done = make(map[string]*count)
	}
	c := t.done[name]
	if c == nil {
		c = &count{}
		t.done[name] = c
	}
	if refused {
		c.refused++
	} else {
		c.done++
	}
}

func (t *tally) skip(why string) {
	if t.skips == nil {
		t.skips = make(map[string]int)
	}
	t.skips[why]++
}

// add adds what another has counted.
func (t *tally) add(other *tally) {
	for name, c := range other.done {
		t.entry(name, false)
		t.done[name].done += c.done - 1
		t.done[name].refused += c.refused
	}
	for why, n := range other.skips {
		t.skip(why)
		t.skips[why] += n - 1
	}
	t.results += other.results
	t.states += other.states
	t.hashes += other.hashes
	t.logs += other.logs
}

// entries is how many entries were compared, and how many reads.
func (t *tally) entries() (entries, reads int) {
	for name, c := range t.done {
		if strings.HasPrefix(name, "read: ") {
			reads += c.done + c.refused
		} else {
			entries += c.done + c.refused
		}
	}
	return entries, reads
}

func (t *tally) String() string {
	var b strings.Builder
	entries, reads := t.entries()
	fmt.Fprintf(&b, "%d logs: %d entries, %d reads; %d results, %d states and %d hashes compared\n",
		t.logs, entries, reads, t.results, t.states, t.hashes)
	fmt.Fprintf(&b, "  %-40s %9s %9s\n", "", "done", "refused")
	for _, name := range slices.Sorted(maps.Keys(t.done)) {
		fmt.Fprintf(&b, "  %-40s %9d %9d\n", name, t.done[name].done, t.done[name].refused)
	}
	for _, why := range slices.Sorted(maps.Keys(t.skips)) {
		fmt.Fprintf(&b, "  left out %6d: %s\n", t.skips[why], why)
	}
	return b.String()
}
