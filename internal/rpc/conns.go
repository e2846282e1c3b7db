package rpc

import (
	"fmt"
	"net"
	"sync"

	"github.com/ashlar-kv/ashlar/internal/h2"
)

// Conns are the open connections of clients, by remote address: whoever bounds what a client may hold can close one, and is
// told when one has ended. (gRPC does not give back the buffers of a connection that ends.)
type Conns struct {
	gone func(client string) // called when a connection has ended; set before the first

	mu   sync.Mutex
	last uint64 // number of the last connection without an address of its own
	open map[string]net.Conn
}

// NewConns returns an empty set.
func NewConns() *Conns { return &Conns{gone: func(string) {}, open: make(map[string]net.Conn)} }

// cut closes the connection from an address, if it is open.
func (c *Conns) cut(address string) {
	c.mu.Lock()
	conn := c.open[address]
	c.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // it may have ended meanwhile
	}
}

// has tells whether the connection from an address is open. Once it says no, gone is called or was.
func (c *Conns) has(address string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[address] != nil
}

// Listen returns lis with its connections in the set.
func (c *Conns) Listen(lis net.Listener) net.Listener { return &noting{lis, c} }

type noting struct {
	net.Listener
	conns *Conns
}

// Accept implements net.Listener.
func (l *noting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.conns.note(conn), nil
}

func (c *Conns) note(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &noted{Conn: conn, conns: c, address: conn.RemoteAddr()}
	if _, ok := n.address.(*net.TCPAddr); !ok {
		// Clients on a unix socket have no name.
		c.last++
		n.address = numbered{conn.RemoteAddr().Network(), c.last}
	}
	c.open[n.address.String()] = conn
	return n
}

// numbered is the address of a client that has none.
type numbered struct {
	network string
	n       uint64
}

func (a numbered) Network() string { return a.network }
func (a numbered) String() string  { return fmt.Sprintf("%s client %d", a.network, a.n) }

// noted is a connection that is noted until it is closed.
type noted struct {
	net.Conn
	conns   *Conns
	address net.Addr
}

// RemoteAddr implements net.Conn.
func (n *noted) RemoteAddr() net.Addr { return n.address }

// WritesTo implements h2.Overlay.
func (n *noted) WritesTo() net.Conn { return n.Conn }

var _ h2.Overlay = (*noted)(nil)

// Close implements net.Conn.
func (n *noted) Close() error {
	n.conns.mu.Lock()
	if n.conns.open[n.address.String()] == n.Conn { // and not one that has the address after it
		delete(n.conns.open, n.address.String())
	}
	n.conns.mu.Unlock()
	err := n.Conn.Close()
	n.conns.gone(n.address.String())
	return err
}
