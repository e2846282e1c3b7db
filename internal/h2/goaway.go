package h2

import "time"

// drainState is how far a connection is on its way to a graceful end.
type drainState int

const (
	drainNone drainState = iota
	// drainSoon: the client was told to go; what it began before it heard of that is served.
	drainSoon
	// drainLast: the client knows the last call that is served.
	drainLast
)

// drainPatience is how long a client has to hear that it is to go.
const drainPatience = 5 * time.Second

// drain lets the client begin no more calls, and ends the connection after the last.
func (c *conn) drain(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.drains != drainNone {
		return
	}
	c.drains, c.drainReason = drainSoon, reason
	c.out = appendGoAway(c.output.take(), streamMask, codeNo, reason)
	c.out = appendPing(c.out, 0, goAwayPing[:])
	c.drainTimer = time.AfterFunc(drainPatience, c.drainAcknowledged)
	c.kick()
}

// drainAcknowledged goes on once the client has heard that it is to go.
func (c *conn) drainAcknowledged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.drains != drainSoon {
		return
	}
	c.drains = drainLast
	c.drainTimer.Stop()
	c.out = appendGoAway(c.output.take(), c.lastID, codeNo, c.drainReason)
	c.drained()
	c.kick()
}

// drained ends a connection after its last call. REQUIRES: mu is held.
func (c *conn) drained() {
	if c.drains == drainLast && len(c.streams) == 0 {
		c.hang()
	}
}
