package h2

import (
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

const (
	// handshakeTimeout is how long a connection may take until its first settings came.
	handshakeTimeout = 120 * time.Second
	acceptRetryMin   = 5 * time.Millisecond
	acceptRetryMax   = time.Second
)

// Serve serves the connections of a listener until Stop or GracefulStop, after which it returns nil once these are through; after
// them it returns grpc.ErrServerStopped at once. It closes the listener. An error of accepting that is not temporary ends it too.
func (s *Server) Serve(lis net.Listener) error {
	s.mu.Lock()
	s.serving = true
	if s.quit {
		s.mu.Unlock()
		_ = lis.Close()
		return grpc.ErrServerStopped
	}
	s.listeners[lis] = struct{}{}
	s.accepts.Add(1)
	s.mu.Unlock()
	err := s.accept(lis)
	s.mu.Lock()
	if _, open := s.listeners[lis]; open {
		delete(s.listeners, lis)
		_ = lis.Close()
	}
	quit := s.quit
	s.mu.Unlock()
	s.accepts.Done()
	if quit {
		<-s.stopped
		return nil
	}
	return err
}

func (s *Server) accept(lis net.Listener) error {
	retry := time.Duration(0)
	for {
		nc, err := lis.Accept()
		if err == nil {
			retry = 0
			if s.open(nc) {
				go s.serveConn(nc)
			}
			continue
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return err
		}
		retry = min(max(2*retry, acceptRetryMin), acceptRetryMax)
		t := time.NewTimer(retry)
		select {
		case <-t.C:
		case <-s.stopping:
			t.Stop()
			return nil
		}
	}
}

// open notes a connection whose handshake begins.
func (s *Server) open(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quit {
		_ = nc.Close()
		return false
	}
	s.opening[nc] = struct{}{}
	s.accepts.Add(1)
	return true
}

// serveConn serves a connection until it ends.
func (s *Server) serveConn(nc net.Conn) {
	c, err := s.handshake(nc)
	s.mu.Lock()
	delete(s.opening, nc)
	if c != nil {
		s.conns[c] = struct{}{}
	}
	draining := s.draining
	s.mu.Unlock()
	s.accepts.Done()
	if c == nil {
		if !errors.Is(err, credentials.ErrConnDispatched) {
			_ = nc.Close()
		}
		return
	}
	if draining {
		c.drain("")
	}
	c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.changed.Broadcast()
	s.mu.Unlock()
}

// handshake brings a connection to where its first settings were received.
func (s *Server) handshake(nc net.Conn) (*conn, error) {
	if err := nc.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	inner := nc
	var info credentials.AuthInfo
	if s.o.Credentials != nil {
		var err error
		if inner, info, err = s.o.Credentials.ServerHandshake(nc); err != nil {
			return nil, err
		}
	}
	c := newConn(s, inner, info)
	if err := c.greet(); err != nil {
		c.close()
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// Stop closes all listeners and connections, cancels the calls under way, and waits until their handlers have returned.
func (s *Server) Stop() { s.stop(false) }

// GracefulStop closes all listeners, lets no more calls begin, and waits until those under way have ended. Stop may be called while
// it waits.
func (s *Server) GracefulStop() { s.stop(true) }

func (s *Server) stop(graceful bool) {
	s.mu.Lock()
	if !s.quit {
		s.quit = true
		close(s.stopping)
	}
	for lis := range s.listeners {
		_ = lis.Close()
	}
	s.listeners = nil
	for nc := range s.opening {
		_ = nc.Close()
	}
	s.mu.Unlock()
	s.accepts.Wait()

	s.mu.Lock()
	var conns []*conn
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.draining = s.draining || graceful
	s.mu.Unlock()
	for _, c := range conns {
		if graceful {
			c.drain("graceful_stop")
		} else {
			c.close()
		}
	}
	s.mu.Lock()
	for len(s.conns) > 0 {
		s.changed.Wait()
	}
	s.mu.Unlock()
	s.handlers.Wait()
	s.workers.close()
	s.stopOnce.Do(func() { close(s.stopped) })
}
