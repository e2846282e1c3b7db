package h2

import (
	"encoding/binary"
)

// settings takes a SETTINGS frame of the client, and acknowledges it.
func (c *conn) settings(f frame, p []byte) *brokenConn {
	if f.has(flagAck) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := eachSetting(p, c.setting); err != nil {
		return err
	}
	c.out = appendFrame(c.output.take(), 0, kindSettings, flagAck, 0)
	c.full = c.stuffed()
	return nil
}

// setting takes one of them. REQUIRES: mu is held.
func (c *conn) setting(s setting) *brokenConn {
	switch s.id {
	case settingTableSize:
		c.table.resize(s.value)
	case settingHeaderListMax:
		c.listMax = int64(s.value)
	case settingWindow:
		return c.resizeWindows(int64(s.value))
	}
	return nil
}

// resizeWindows takes the window that streams begin with: all windows change by the difference. REQUIRES: mu is held.
func (c *conn) resizeWindows(n int64) *brokenConn {
	grown := n > c.streamWindow
	c.streamWindow = n
	if !grown {
		return nil
	}
	if n-c.sentMin > windowMax {
		c.sentMin = 0
		for _, s := range c.streams {
			if n-s.sent > windowMax {
				return broken(codeFlowControl, "INITIAL_WINDOW_SIZE of %d with stream %d above it", n, s.id)
			}
			c.sentMin = min(c.sentMin, s.sent)
		}
	}
	for s := range c.stalled {
		if n > s.sent {
			c.ring(s)
		}
	}
	return nil
}

// windowUpdate takes a WINDOW_UPDATE frame.
func (c *conn) windowUpdate(f frame, p []byte) *brokenConn {
	n := int64(binary.BigEndian.Uint32(p) & windowMax)
	if f.stream == 0 {
		if n == 0 {
			return broken(codeProtocol, "WINDOW_UPDATE of 0")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.output.window += n; c.output.window > windowMax {
			return broken(codeFlowControl, "the window of the connection is above its limit")
		}
		return nil
	}
	if c.idle(f.stream) {
		return broken(codeProtocol, "WINDOW_UPDATE on stream %d, which is not open", f.stream)
	}
	c.mu.Lock()
	s, why := c.find(f.stream), codeNo
	switch {
	case s == nil:
	case n == 0:
		why = codeProtocol
	case c.streamWindow-s.sent+n > windowMax:
		why = codeFlowControl
	default:
		s.sent -= n
		c.sentMin = min(c.sentMin, s.sent)
		if len(s.queue) > 0 && c.streamWindow > s.sent {
			c.ring(s)
		}
	}
	c.mu.Unlock()
	if why != codeNo {
		s.abandon(why)
	}
	return nil
}

// takeReset takes a RST_STREAM frame.
func (c *conn) takeReset(f frame) *brokenConn {
	if c.idle(f.stream) {
		return broken(codeProtocol, "RST_STREAM on stream %d, which is not open", f.stream)
	}
	c.mu.Lock()
	s := c.find(f.stream)
	c.mu.Unlock()
	if s != nil {
		s.abandon(codeNo)
		s.in.drop(c.srv.o.Buffers)
	}
	return nil
}
