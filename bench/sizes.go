package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// Sizes are how much a run does.
type Sizes struct {
	Name     string        `json:"name"`
	Keys     int           `json:"keys"`     // in the lines about a large store; the others have a tenth
	One      int           `json:"one"`      // operations of one client in a turn
	Many     int           `json:"many"`     // of several
	Most     time.Duration `json:"most"`     // a turn ends after it, with what was done
	Settle   time.Duration `json:"settle"`   // how long servers may take to become quiet
	Watchers int           `json:"watchers"` // of the fan-out
	Events   int           `json:"events"`   // of the fan-out
	Behind   int           `json:"behind"`   // revisions that late watchers catch up with
	Leases   int           `json:"leases"`
	Window   time.Duration `json:"window"` // how long a disturbance is watched at least
	Pace     int           `json:"pace"`   // puts a second beside it
	Nodes    int           `json:"nodes"`  // of Kubernetes
	Copies   int           `json:"copies"` // of the trace, at once
	Rounds   int           `json:"rounds"`
	Budget   time.Duration `json:"budget"`   // of the whole run
	SlowMax  int           `json:"slow_max"` // rounds of scenarios that take long
}

var (
	fullSizes = Sizes{Name: "full", Keys: 1_000_000, One: 10_000, Many: 100_000, Most: 30 * time.Second, Settle: 10 * time.Second,
		Watchers: 10_000, Events: 100, Behind: 100_000, Leases: 100_000, Window: 5 * time.Second, Pace: 500, Nodes: 5000,
		Copies: 50, Rounds: 5, Budget: 3 * time.Hour, SlowMax: 3}
	quickSizes = Sizes{Name: "quick", Keys: 100_000, One: 500, Many: 6000, Most: time.Second, Settle: 200 * time.Millisecond,
		Watchers: 2000, Events: 20, Behind: 10_000, Leases: 2000, Window: 500 * time.Millisecond, Pace: 500, Nodes: 100,
		Copies: 4, Rounds: 3, Budget: 265 * time.Second, SlowMax: 1}
)

// sizesMin are below what no run goes when it is scaled down.
var sizesMin = Sizes{Keys: 2000, One: 20, Many: 200, Most: time.Second, Settle: 50 * time.Millisecond, Watchers: 20, Events: 2, Behind: 200,
	Leases: 100, Window: 100 * time.Millisecond, Pace: 100, Nodes: 10, Copies: 1}

// scaled multiplies the amounts of work.
func (s Sizes) scaled(by float64) Sizes {
	for _, n := range []struct {
		value *int
		least int
	}{
		{&s.Keys, sizesMin.Keys}, {&s.One, sizesMin.One}, {&s.Many, sizesMin.Many}, {&s.Watchers, sizesMin.Watchers}, {&s.Events, sizesMin.Events},
		{&s.Behind, sizesMin.Behind}, {&s.Leases, sizesMin.Leases}, {&s.Pace, sizesMin.Pace}, {&s.Nodes, sizesMin.Nodes}, {&s.Copies, sizesMin.Copies},
	} {
		*n.value = max(n.least, int(float64(*n.value)*by))
	}
	for _, d := range []struct {
		value *time.Duration
		least time.Duration
	}{{&s.Most, sizesMin.Most}, {&s.Settle, sizesMin.Settle}, {&s.Window, sizesMin.Window}} {
		*d.value = max(d.least, time.Duration(float64(*d.value)*by))
	}
	s.Name = fmt.Sprintf("%s × %g", s.Name, by)
	return s
}

// keys is how many are loaded: all, or a tenth.
func (s Sizes) keys(all bool) int {
	if all {
		return s.Keys
	}
	return s.Keys / 10
}

const (
	valueBytes = 256
	pageKeys   = 500
	// loadTxn is how many keys one transaction loads.
	loadTxn = 100
)

// loadKey is the i-th of the loaded keys: 32 bytes, in order.
func loadKey(i int) string { return fmt.Sprintf("/registry/load/default/%09d", i) }

// value makes n bytes that do not compress; the same number makes the same bytes.
func value(number, n int) []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(number))
	out := make([]byte, n)
	rand.NewChaCha8(seed).Read(out) // it never fails
	return out
}

// valuesMax is how many different values a scenario has ready, so that making them costs the clients nothing.
const valuesMax = 64

// values are some values of n bytes.
func values(n int) []string {
	out := make([]string, valuesMax)
	for i := range out {
		out[i] = string(value(i, n))
	}
	return out
}
