package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

const (
	// readBytes is the buffer that frames are parsed in. It holds the longest one whole.
	readBytes = frameMax + 2<<10
	// connWindow is how much a client may send on all streams before we have read it. Nothing of it is kept: what is kept is bounded by
	// the windows of streams.
	connWindow = 16 << 20
	// streamWindow is how much a client may send on a stream before its handler has taken it, but for the message that the handler waits for.
	streamWindow = 256 << 10
	// orphansMax is how many handlers may be at work for streams that were reset, before no more frames are taken.
	orphansMax = 1 << 10
	// farewellWait is how long a client has to read why its connection ends.
	farewellWait = time.Second
)

var errGreeting = errors.New("the client did not begin as HTTP/2 does")

// conn is a connection.
//
// Its reader is the goroutine that reads frames, and alone uses what is its own. Everybody else, and the reader for the rest, takes mu. What is to be
// written is appended to out under mu; whoever finds no flusher at work becomes it, or starts one, and writes without the lock.
//
// Locks: mu before the lock of a call's context is never taken; contexts are cancelled with no lock held.
type conn struct {
	srv   *Server
	nc    net.Conn
	lends net.Conn        // beneath nc, writes several buffers at once; nil where none does
	base  context.Context // what the contexts of all calls have in common

	// The reader's own.
	in      []byte
	from    int // what of in is not parsed yet
	to      int
	headers *headers
	block   block
	data    data
	last    *stream // that got the last frame
	granted int64   // what the client may still send
	unacked int64   // what it has sent since it was told
	pings   pings
	full    bool // the client has to read before more frames are taken
	handed  bool // what was read since the last look at out held a message, or the end of one, for a handler

	heard atomic.Int64 // when something was last read, in nanoseconds since born
	born  time.Time
	alive keepalive

	mu          sync.Mutex
	changed     sync.Cond // see waiting
	waiting     int       // goroutines that wait for changed
	closed      bool
	streams     map[uint32]*stream
	lastID      uint32 // of the last stream that the client has opened
	running     uint32 // handlers under way
	unaries     int    // those of them that are of unary calls
	orphans     int    // those of them whose streams have ended
	drains      drainState
	drainReason string
	drainTimer  *time.Timer
	hanging     bool // the connection is closed once everything is written
	hangTimer   *time.Timer
	pingsForget bool // headers or data were sent: the client may ping
	output
}

func newConn(s *Server, nc net.Conn, info credentials.AuthInfo) *conn {
	c := &conn{srv: s, nc: nc, lends: beneath(nc), born: time.Now(), in: make([]byte, readBytes), streams: make(map[uint32]*stream), granted: connWindow}
	c.changed.L = &c.mu
	c.base = peer.NewContext(context.Background(), &peer.Peer{Addr: nc.RemoteAddr(), LocalAddr: nc.LocalAddr(), AuthInfo: info})
	c.headers = newHeaders(s, c.base)
	c.output.begin()
	return c
}

// greet sends our settings, and waits for the client's.
func (c *conn) greet() error {
	settings := appendSetting(nil, settingFrameSize, frameMax)
	if n := c.srv.o.MaxConcurrentStreams; n > 0 {
		settings = appendSetting(settings, settingStreams, n)
	}
	settings = appendSetting(settings, settingWindow, streamWindow)
	settings = appendSetting(settings, settingHeaderListMax, headerListMax)
	out := append(appendFrame(nil, len(settings), kindSettings, 0, 0), settings...)
	out = appendWindowUpdate(out, 0, connWindow-windowDefault)
	if _, err := c.nc.Write(out); err != nil {
		return err
	}
	if err := c.need(len(preface)); err != nil {
		return err
	}
	if string(c.in[:len(preface)]) != preface {
		return errGreeting
	}
	c.from += len(preface)
	if err := c.need(headerBytes); err != nil {
		return err
	}
	f := parseFrame(c.in[c.from:])
	if f.kind != kindSettings {
		return errGreeting
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := c.need(headerBytes + f.length); err != nil {
		return err
	}
	p := c.in[c.from+headerBytes:][:f.length]
	c.from += headerBytes + f.length
	if err := c.settings(f, p); err != nil {
		return err
	}
	return nil
}

// need reads until n bytes are there to parse. REQUIRES: n <= frameMax + headerBytes.
func (c *conn) need(n int) error {
	for c.to-c.from < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads more.
func (c *conn) fill() error {
	if c.from > 0 {
		c.to = copy(c.in, c.in[c.from:c.to])
		c.from = 0
		invariant.Poison(c.in[c.to:])
	}
	n, err := c.nc.Read(c.in[c.to:])
	c.to += n
	if n > 0 {
		c.touch()
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// touch notes that the client lives.
func (c *conn) touch() { c.heard.Store(int64(time.Since(c.born))) }

// serve reads until the connection ends.
func (c *conn) serve() {
	c.alive.start(c)
	err := c.read()
	var b *brokenConn
	if errors.As(err, &b) {
		c.part(b)
	}
	c.close()
	c.mu.Lock()
	for c.flushing {
		c.wait()
	}
	c.mu.Unlock()
}

// wait waits for a change. REQUIRES: mu is held.
func (c *conn) wait() {
	c.waiting++
	c.changed.Wait()
	c.waiting--
}

// wake lets all that wait look again. REQUIRES: mu is held.
func (c *conn) wake() {
	if c.waiting > 0 {
		c.changed.Broadcast()
	}
}

// part tells the client what it did wrong, and reads on for a moment: a connection that is closed with bytes unread takes back what
// was written to it.
func (c *conn) part(why *brokenConn) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.out = appendGoAway(c.output.take(), c.lastID, why.code, why.reason)
	c.kick()
	c.hanging = true
	c.farewell()
	c.mu.Unlock()
	c.discard()
}

// discard reads what the client still sends, until it or farewellWait ends the connection.
func (c *conn) discard() {
	for {
		c.from, c.to = 0, 0
		if c.fill() != nil {
			return
		}
	}
}

// hang closes the connection when everything is written, once the client closes its side too, or after farewellWait. REQUIRES: mu is held.
func (c *conn) hang() {
	c.hanging = true
	c.kick()
	c.linger()
}

// linger is called when there may be nothing left to write. REQUIRES: mu is held.
func (c *conn) linger() {
	if c.hanging && !c.flushing && !c.pending() {
		c.farewell()
	}
}

// farewell leaves the client farewellWait. REQUIRES: mu is held.
func (c *conn) farewell() {
	if c.hangTimer == nil && !c.closed {
		c.hangTimer = time.AfterFunc(farewellWait, c.close)
	}
}

// close ends the connection and all its calls, once.
func (c *conn) close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	streams := c.streams
	c.streams = nil
	for _, s := range streams {
		s.leave()
	}
	for _, t := range []*time.Timer{c.drainTimer, c.hangTimer} {
		if t != nil {
			t.Stop()
		}
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	c.alive.stop()
	_ = c.nc.Close() // it may have ended meanwhile
	for _, s := range streams {
		s.cancel(context.Canceled)
	}
}
