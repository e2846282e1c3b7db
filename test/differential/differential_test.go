package differential

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "run only the random log of this seed")
	firstFlag   = flag.Uint64("first", 1, "the first seed")
	seedsFlag   = flag.Int("seeds", 600, "how many random logs are compared")
	entriesFlag = flag.Int("entries", 250, "how long a random log is")
	limitFlag   = flag.Duration("limit", 25*time.Second, "no new random log is begun after this time")
)

// Random commands, driven by a seed, are decided alike.
func TestRandomLogs(t *testing.T) {
	began, total := time.Now(), &tally{}
	for i := range *seedsFlag {
		seed := *firstFlag + uint64(i)
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		randomLog(t, seed, total)
		if entries, _ := total.entries(); *seedFlag != 0 || t.Failed() || time.Since(began) > *limitFlag && entries >= entriesMin {
			break
		}
	}
	fmt.Printf("random: %s", total)
}

// entriesMin is how many entries are compared however long it takes.
const entriesMin = 2000

// randomLog compares one log.
func randomLog(t *testing.T, seed uint64, total *tally) {
	p := newPair(t, &tally{logs: 1})
	defer p.close()
	profile := profiles[seed%uint64(len(profiles))]
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), e: p.e, profile: profile}
	var steps []step
	var err error
	do := func(s step) {
		steps = append(steps, s)
		err = p.do(s)
		g.e = p.e // another one after a start
	}
	first := founding()
	if profile.auth > 0 && !g.one(4) {
		first = append(first, g.users()...)
	}
	for _, s := range first {
		if err == nil {
			do(s)
		}
	}
	for i := 0; i < *entriesFlag && err == nil; i++ {
		do(g.step())
	}
	if err == nil {
		err = p.settle()
	}
	if err != nil {
		t.Errorf("seed %d (%s); again with: go test . -run TestRandomLogs -seed=%d", seed, profile.name, seed)
		explain(t, steps, err)
	}
	total.add(p.tally)
}
