package h2

import "time"

// holdMax is how long the acknowledgement of a ping waits for what could be written with it.
const holdMax = 10 * time.Millisecond

// mayHold tells whether there is nothing to write but acknowledgements of pings, while an answer is on its way: with each answer that it
// gets grpc-go's client sends a ping, by which it measures the connection, and its next request. Who waits for the answer of that would be
// woken twice, by two writes. Where messages wait for a window, pings are acknowledged at once, since the client gives a larger one by
// them. REQUIRES: mu is held, and the caller is the reader.
func (c *conn) mayHold() bool {
	return c.handed && len(c.out) == c.acks && c.first == nil && len(c.stalled) == 0 && !c.hanging
}

// hold leaves what is in out to whoever writes next, at the latest after holdMax. REQUIRES: mu is held.
func (c *conn) hold() {
	if len(c.out) > 0 && !c.held && !c.flushing {
		c.held = true
		time.AfterFunc(holdMax, c.release)
	}
}

// release writes what was held.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	c.kick()
}
