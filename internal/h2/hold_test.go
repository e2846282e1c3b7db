package h2

import "testing"

func TestWhatIsHeldIsAcknowledgementsAlone(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		change func(c *conn)
		want   bool
	}{
		"of a ping that came with a request":             {func(*conn) {}, true},
		"of a ping that came alone":                      {func(c *conn) { c.handed = false }, false},
		"beside other frames":                            {func(c *conn) { c.out = appendReset(c.out, 1, codeNo) }, false},
		"beside a message that waits for its turn":       {func(c *conn) { c.first = new(stream) }, false},
		"beside a message that waits for its own window": {func(c *conn) { c.stalled[new(stream)] = struct{}{} }, false},
		"on a connection that ends once all was written": {func(c *conn) { c.hanging = true }, false},
		"of two pings": {func(c *conn) { acknowledge(c) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &conn{handed: true}
			c.output.begin()
			acknowledge(c)
			x.change(c)
			if got := c.mayHold(); got != x.want {
				t.Errorf("held: %v", got)
			}
		})
	}
}

func acknowledge(c *conn) {
	c.out = appendPing(c.out, flagAck, make([]byte, pingBytes))
	c.acks += headerBytes + pingBytes
}
