package accept

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// scripted is a listener that fails as it is told, and then has a connection.
type scripted struct {
	net.Listener
	errs []error
	conn net.Conn
}

func (s *scripted) Accept() (net.Conn, error) {
	if len(s.errs) == 0 {
		return s.conn, nil
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return nil, err
}

func system(no syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", no)}
}

func TestNext(t *testing.T) {
	t.Parallel()
	ours, other := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), other.Close() })
	open, closed := make(chan struct{}), make(chan struct{})
	close(closed)
	for name, c := range map[string]struct {
		errs []error
		done <-chan struct{}
		want error // nil: the connection
	}{
		"at once":                           {nil, open, nil},
		"after too many open files, twice":  {[]error{system(syscall.EMFILE), system(syscall.ENFILE)}, open, nil},
		"after a client that went away":     {[]error{system(syscall.ECONNABORTED)}, open, nil},
		"without room for more, at the end": {[]error{system(syscall.ENOMEM)}, closed, syscall.ENOMEM},
		"of a closed listener":              {[]error{net.ErrClosed}, open, net.ErrClosed},
		"of one that was never any":         {[]error{system(syscall.EINVAL)}, open, syscall.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{errs: c.errs, conn: ours}
			got, err := Next(s, c.done)
			if !errors.Is(err, c.want) || (got == ours) != (c.want == nil) {
				t.Errorf("got the connection: %t, and %v; want %v", got == ours, err, c.want)
			}
			if len(s.errs) > 0 {
				t.Errorf("%v was not met", s.errs)
			}
		})
	}
}
