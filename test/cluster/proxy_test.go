package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// network is what lies between the members: a proxy in front of each, and which ways are cut or slow.
type network struct {
	mu      sync.Mutex
	cut     map[way]bool
	delay   time.Duration   // of every piece of bytes
	loss    float64         // which share of the pieces is lost and sent again
	pieces  map[way]int     // of bytes that have come so far, those that wait too
	numbers map[string]int  // members' ids, in hexadecimal, to their numbers
	changed chan struct{}   // closed and replaced when any of it changes
	done    context.Context // the test is over
}

// way is the direction from one member to another, by their numbers.
type way struct{ from, to int }

// stranger is the number of whoever does not say who it is.
const stranger = -1

func newNetwork(tb testing.TB) *network {
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	return &network{cut: map[way]bool{}, pieces: map[way]int{}, numbers: map[string]int{}, changed: make(chan struct{}), done: ctx}
}

// change changes the network and wakes what waits for it.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// isolate cuts a member off from all others, in both directions or in one.
func (n *network) isolate(members []*member, x *member, in, out bool) {
	n.change(func() {
		for _, o := range members {
			if o == x {
				continue
			}
			if in {
				n.cut[way{o.number, x.number}] = true
			}
			if out {
				n.cut[way{x.number, o.number}] = true
			}
		}
	})
}

// heal mends everything.
func (n *network) heal() { n.change(func() { clear(n.cut); n.delay, n.loss = 0, 0 }) }

// lose delays every piece of bytes, and loses a share of them. TCP sends a lost packet again after a while, and what comes behind it
// waits: so it is here. Of those that are lost, a few are the last of their connection.
func (n *network) lose(share float64, delay time.Duration) {
	n.change(func() { n.loss, n.delay = share, delay })
}

// A lost piece comes after the lowest time after which Linux sends a packet again, and breaks the connection by this chance.
const (
	sentAgain   = 200 * time.Millisecond
	breakChance = 0.02
)

// slow delays every piece of bytes.
func (n *network) slow(d time.Duration) { n.change(func() { n.delay = d }) }

// came says how many pieces of bytes have come so far that way.
func (n *network) came(w way) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pieces[w]
}

// pass waits until bytes may go on from one member to another. It returns false when they never do: ctx ends first, or the
// connection breaks.
func (n *network) pass(ctx context.Context, w way) bool {
	n.mu.Lock()
	n.pieces[w]++
	n.mu.Unlock()
	for {
		n.mu.Lock()
		cut, delay, changed := n.cut[w], n.delay, n.changed
		if n.loss > 0 && rand.Float64() < n.loss {
			delay += sentAgain
			if rand.Float64() < breakChance {
				n.mu.Unlock()
				return false
			}
		}
		n.mu.Unlock()
		var timer <-chan time.Time
		switch {
		case !cut && delay == 0:
			return ctx.Err() == nil
		case !cut:
			timer = time.After(delay)
			changed = nil
		}
		select {
		case <-timer:
			return true
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// numberOf says whose request this is.
func (n *network) numberOf(req *http.Request) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if number, ok := n.numbers[req.Header.Get("X-Server-From")]; ok {
		return number
	}
	return stranger
}

// proxy serves address and passes everything on to the member number at target, until stop is called.
func (n *network) proxy(tb testing.TB, address, target string, number int) (stop func()) {
	tb.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.done)
	stop = func() { cancel(); l.Close() }
	tb.Cleanup(stop)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.carry(ctx, c, target, number)
		}
	}()
	return stop
}

// carry carries one connection.
func (n *network) carry(ctx context.Context, c net.Conn, target string, number int) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { c.Close() })
	in := bufio.NewReaderSize(c, 64<<10)
	from := n.peek(in)
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer to.Close()
	context.AfterFunc(ctx, func() { to.Close() })
	go func() {
		defer cancel()
		n.copy(ctx, to, in, way{from, number})
	}()
	n.copy(ctx, c, to, way{number, from})
}

// peek says who dials, by the head of the first request, which stays to be read.
func (n *network) peek(in *bufio.Reader) int {
	for want := 1; want <= in.Size(); want = in.Buffered() + 1 {
		if _, err := in.Peek(want); err != nil {
			return stranger
		}
		head, _ := in.Peek(in.Buffered()) // it is there
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err == nil {
			return n.numberOf(req)
		}
	}
	return stranger
}

func (n *network) copy(ctx context.Context, to io.Writer, from io.Reader, w way) {
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		if k > 0 {
			if !n.pass(ctx, w) {
				return
			}
			if _, werr := to.Write(buf[:k]); werr != nil {
				return
			}
		}
		if err != nil || errors.Is(ctx.Err(), context.Canceled) {
			return
		}
	}
}
