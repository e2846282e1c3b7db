package server

import (
	"errors"
	"io"
	"net"
	"testing"
)

// dialAndSay connects and says a word.
func dialAndSay(t *testing.T, l net.Listener, word string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test is over
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatal(err)
	}
	return conn
}

// hears accepts a connection and wants to hear a word on it.
func hears(t *testing.T, l net.Listener, word string) {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != word {
		t.Errorf("heard %q, %v; want %q", got, err, word)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestAListenerIsLentToOneMemberAfterTheOther: what comes in between waits for the next.
func TestAListenerIsLentToOneMemberAfterTheOther(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := lend(l)
	first := loans([]*lent{x})[0]
	dialAndSay(t, l, "one")
	hears(t, first, "one")
	waits := make(chan error)
	go func() {
		_, err := first.Accept()
		waits <- err
	}()
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, net.ErrClosed) {
		t.Errorf("who waits for a connection hears %v", err)
	}
	dialAndSay(t, l, "two")
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a loan that has ended accepts: %v", err)
	}
	second := loans([]*lent{x})[0]
	hears(t, second, "two")
	unheard := dialAndSay(t, l, "three")
	if err := x.close(); err != nil {
		t.Error(err)
	}
	if _, err := second.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end of the listener: %v", err)
	}
	if _, err := unheard.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that nobody took is open")
	}
}

func TestAListenerThatItsOwnerClosedMayBeClosedAgain(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := lend(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := loans([]*lent{x})[0].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := x.close(); err != nil {
		t.Error(err)
	}
}
