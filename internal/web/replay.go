package web

import (
	"encoding/binary"
	"net"
)

// replayed is a connection whose first bytes were read already.
type replayed struct {
	net.Conn
	head []byte // what is left of them
}

// Read implements net.Conn.
func (c *replayed) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	if c.head = c.head[n:]; len(c.head) == 0 {
		c.head = nil
	}
	return n, nil
}

// NetConn returns the connection itself, which may be a *tls.Conn.
func (c *replayed) NetConn() net.Conn { return c.Conn }

// WritesTo implements h2.Overlay.
func (c *replayed) WritesTo() net.Conn { return c.Conn }

// The layout of a frame of HTTP/2.
const (
	frameHeaderBytes = 9
	frameTypeAt      = 3
	frameFlagsAt     = 4
	typeSettings     = 0x4
	flagAck          = 0x1
)

// unacknowledged is an HTTP/2 connection from which the first acknowledgement of settings is taken: it answers the
// settings of the splitter, which the server behind it knows nothing of.
type unacknowledged struct {
	net.Conn
	pass   int // bytes to be passed on as they come: the preface, or what is left of a frame
	header [frameHeaderBytes]byte
	have   int    // bytes of header that came
	out    []byte // what is left to give of header
	done   bool   // it was taken: all that comes is passed on
}

// NetConn returns the connection itself.
func (c *unacknowledged) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *unacknowledged) Read(p []byte) (int, error) {
	for !c.done && len(p) > 0 {
		if len(c.out) > 0 {
			n := copy(p, c.out)
			c.out = c.out[n:]
			return n, nil
		}
		if c.pass > 0 {
			n, err := c.Conn.Read(p[:min(len(p), c.pass)])
			c.pass -= n
			return n, err
		}
		n, err := c.Conn.Read(c.header[c.have:])
		if c.have += n; c.have < frameHeaderBytes {
			if err != nil {
				return 0, err // half a header is of no use; after a deadline the rest may come
			}
			continue
		}
		c.have = 0
		length := binary.BigEndian.Uint32(c.header[:4]) >> 8
		if c.header[frameTypeAt] == typeSettings && c.header[frameFlagsAt]&flagAck != 0 && length == 0 {
			c.done = true
			continue
		}
		c.out, c.pass = c.header[:], int(length)
	}
	return c.Conn.Read(p)
}
