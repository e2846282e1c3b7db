// Package accept takes in connections and outlives a lack of file descriptors or memory.
package accept

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// retry is how long accepting rests after an error that may pass.
const retry = 50 * time.Millisecond

// passing are errors of accepting that are gone after a while.
var passing = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR}

// Passes tells whether an error of accepting is gone after a while.
func Passes(err error) bool {
	return slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) })
}

// Next accepts a connection from lis. After an error that may pass it waits a little and tries again, until done is closed. Any other error, and
// the last one then, is that of a listener that is to be accepted from no more.
func Next(lis net.Listener, done <-chan struct{}) (net.Conn, error) {
	for {
		c, err := lis.Accept()
		if err == nil {
			return c, nil
		}
		if !Passes(err) || !pause(done) {
			return nil, err
		}
	}
}

// pause waits, and tells whether to go on.
func pause(done <-chan struct{}) bool {
	t := time.NewTimer(retry)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}

// Patient returns a listener whose connections are those that Next takes from lis, for servers that take its first error for its end. Closing
// it closes lis.
func Patient(lis net.Listener) net.Listener {
	return &patient{Listener: lis, done: make(chan struct{})}
}

type patient struct {
	net.Listener
	once sync.Once
	done chan struct{}
}

// Accept implements net.Listener.
func (p *patient) Accept() (net.Conn, error) { return Next(p.Listener, p.done) }

// Close implements net.Listener.
func (p *patient) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.Listener.Close()
}
