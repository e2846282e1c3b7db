package server

import (
	"errors"
	"net"
	"sync"
)

// lent is a listener that outlives the members that it is lent to, one after the other: a member closes what it listens on when
// it stops, and a listener that was closed cannot be opened again by who does not know how it was made.
type lent struct {
	net.Listener
	accepted chan accepted
	closing  chan struct{}
	pump     sync.WaitGroup
}

// accepted is what the listener gave.
type accepted struct {
	conn net.Conn
	err  error
}

// lend begins to accept. Connections wait for a loan: one here, the others in the operating system.
func lend(l net.Listener) *lent {
	x := &lent{Listener: l, accepted: make(chan accepted), closing: make(chan struct{})}
	x.pump.Go(x.run)
	return x
}

func (x *lent) run() {
	for {
		conn, err := x.Accept()
		select {
		case x.accepted <- accepted{conn, err}:
		case <-x.closing:
			if conn != nil {
				_ = conn.Close() // nobody has spoken on it
			}
			return
		}
	}
}

// close closes the listener. Loans end. It must be called once.
func (x *lent) close() error {
	close(x.closing)
	err := x.Listener.Close()
	x.pump.Wait()
	if errors.Is(err, net.ErrClosed) { // by its owner
		return nil
	}
	return err
}

// loan is a lent listener in the hands of one member.
type loan struct {
	of   *lent
	once sync.Once
	done chan struct{}
}

func loans(of []*lent) (out []net.Listener) {
	for _, x := range of {
		out = append(out, &loan{of: x, done: make(chan struct{})})
	}
	return out
}

// Accept returns the next connection. Errors are the listener's, and net.ErrClosed once the loan has ended.
func (l *loan) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-l.of.accepted:
		return a.conn, a.err
	case <-l.done:
	case <-l.of.closing:
	}
	return nil, net.ErrClosed
}

// Close ends the loan and leaves the listener open.
func (l *loan) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr returns the listener's address.
func (l *loan) Addr() net.Addr { return l.of.Addr() }
