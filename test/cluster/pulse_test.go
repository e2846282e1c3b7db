package cluster

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pulse is what clients that work all the time share: whom they ask, and how they get on. It may be used from any goroutine.
type pulse struct {
	tb     testing.TB
	failed atomic.Int64
	acks   atomic.Int64 // of writes

	mu        sync.Mutex
	endpoints []string
	longest   time.Duration // between two acknowledged writes of anybody
	last      time.Time
}

// newPulse begins with the members there are now.
func (c *cluster) newPulse() *pulse {
	p := &pulse{tb: c.TB, last: time.Now()}
	p.use(c.members)
	return p
}

// use makes the members given the ones that are asked from now on.
func (p *pulse) use(members []*member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints = nil
	for _, m := range members {
		p.endpoints = append(p.endpoints, m.client)
	}
}

func (p *pulse) endpoint(turn int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoints[turn%len(p.endpoints)]
}

func (p *pulse) acknowledged() {
	p.acks.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.longest = max(p.longest, now.Sub(p.last))
	p.last = now
}

// pause returns the longest time without an acknowledged write since it was last asked.
func (p *pulse) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := max(p.longest, time.Since(p.last))
	p.longest = 0
	return d
}

// progress waits until n more writes were acknowledged.
func (p *pulse) progress(c *cluster, n int64) {
	c.Helper()
	until := p.acks.Load() + n
	c.eventually("writes that go on", func() bool { return p.acks.Load() >= until })
}
