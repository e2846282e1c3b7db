package h2

import (
	"sync"
	"time"
)

const (
	// strikesMax is how many pings a client may send too early.
	strikesMax = 2
	// idlePings is how often a client without calls may ping.
	idlePings = 2 * time.Hour
)

// goAwayPing is what the ping between the two GOAWAY of a drain carries.
var goAwayPing = [pingBytes]byte{1, 6, 1, 8, 0, 3, 3, 9}

// pings are what a client has pinged. They belong to the reader.
type pings struct {
	last    time.Time
	strikes int
}

// ping takes a PING frame. A client that pings too often without being sent anything is parted from.
func (c *conn) ping(f frame, p []byte) *brokenConn {
	if f.has(flagAck) {
		if [pingBytes]byte(p) == goAwayPing {
			c.drainAcknowledged()
		}
		return nil
	}
	c.mu.Lock()
	c.out = appendPing(c.output.take(), flagAck, p)
	c.acks += headerBytes + pingBytes
	c.full = c.stuffed()
	forget, calls := c.pingsForget, len(c.streams)
	c.pingsForget = false
	c.mu.Unlock()
	now := time.Now()
	last := c.pings.last
	c.pings.last = now
	if forget {
		c.pings.strikes = 0
		return nil
	}
	every := c.srv.o.KeepaliveMinTime
	if calls == 0 {
		every = idlePings
	}
	if last.Add(every).After(now) {
		c.pings.strikes++
	}
	if c.pings.strikes > strikesMax {
		return &brokenConn{codeCalm, "too_many_pings"}
	}
	return nil
}

// keepalive looks whether the client still lives: one that was silent for the interval is pinged, and one that stays silent for the
// timeout after it is cut off.
type keepalive struct {
	mu       sync.Mutex
	timer    *time.Timer
	stopped  bool
	pinged   bool
	left     time.Duration // of the timeout
	lastSeen int64         // conn.heard at the last look
}

func (k *keepalive) start(c *conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped {
		k.lastSeen = int64(time.Since(c.born))
		k.timer = time.AfterFunc(c.srv.o.KeepaliveInterval, func() { k.look(c) })
	}
}

func (k *keepalive) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.timer != nil {
		k.timer.Stop()
	}
}

// look is called by the timer.
func (k *keepalive) look(c *conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	interval, timeout := c.srv.o.KeepaliveInterval, c.srv.o.KeepaliveTimeout
	if heard := c.heard.Load(); heard > k.lastSeen {
		k.lastSeen, k.pinged = heard, false
		k.timer.Reset(max(time.Duration(heard)+interval-time.Since(c.born), 0))
		return
	}
	if k.pinged && k.left <= 0 {
		go c.close() // which stops us
		return
	}
	if !k.pinged {
		c.mu.Lock()
		c.out = appendPing(c.output.take(), 0, make([]byte, pingBytes))
		c.kick()
		c.mu.Unlock()
		k.pinged, k.left = true, timeout
	}
	wait := min(interval, k.left)
	k.left -= wait
	k.timer.Reset(wait)
}
