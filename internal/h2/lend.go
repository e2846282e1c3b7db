package h2

import (
	"net"

	"google.golang.org/grpc/mem"
)

const (
	// lentMin is from how many bytes on a piece of a message is written from where it is, and not copied to out.
	lentMin = 2 << 10
	// lentMax is after how many of them no more is written at once.
	lentMax = 256 << 10
)

// Overlay is a connection that passes on unchanged what is written to it, and does nothing else then.
type Overlay interface {
	// WritesTo returns the connection that it passes it on to.
	WritesTo() net.Conn
}

// beneath returns the connection that takes in one system call what is written to nc in several buffers; nil where there is none, as with TLS.
func beneath(nc net.Conn) net.Conn {
	for {
		switch conn := nc.(type) {
		case *net.TCPConn, *net.UnixConn:
			return conn
		case Overlay:
			nc = conn.WritesTo()
		default:
			return nil
		}
	}
}

// lent are pieces of messages that are written between what is in out. They are the flusher's: pour adds them, and what follows it writes them.
type lent struct {
	pieces  []piece
	bytes   int
	vectors net.Buffers // used again
	left    net.Buffers // of vectors
}

// piece is written before out[at:].
type piece struct {
	at    int
	data  []byte
	owner mem.Buffer // freed once data is written
}

// add takes over a reference to owner.
func (l *lent) add(at int, owner mem.Buffer, data []byte) {
	l.pieces = append(l.pieces, piece{at, data, owner})
	l.bytes += len(data)
}

// write writes out, and what is lent, and gives that back. REQUIRES: the caller is the flusher.
func (c *conn) write(out []byte) error {
	l := &c.lent
	if len(l.pieces) == 0 {
		_, err := c.nc.Write(out)
		return err
	}
	from := 0
	for _, p := range l.pieces {
		if p.at > from {
			l.vectors = append(l.vectors, out[from:p.at])
			from = p.at
		}
		l.vectors = append(l.vectors, p.data)
	}
	if from < len(out) {
		l.vectors = append(l.vectors, out[from:])
	}
	l.left = l.vectors
	_, err := l.left.WriteTo(c.lends)
	for _, p := range l.pieces {
		p.owner.Free()
	}
	clear(l.pieces)
	clear(l.vectors)
	l.pieces, l.vectors, l.left, l.bytes = l.pieces[:0], l.vectors[:0], nil, 0
	return err
}
