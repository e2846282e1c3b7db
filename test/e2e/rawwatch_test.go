package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// rawConn is an HTTP/2 connection for watch streams that costs next to nothing: no message is decoded, there is
// one goroutine, and the flow control is wide open. So a benchmark on one machine measures the server, not the
// client library beside it.
type rawConn struct {
	conn net.Conn
	w    *bufio.Writer
	fr   *http2.Framer

	mu      sync.Mutex // guards what follows and writing
	changed *sync.Cond // windows grew, or err is set
	room    int64      // what may be sent on the connection
	initial int64      // what may be sent on a new stream
	streams map[uint32]*rawStream
	nextID  uint32
	taken   int // what came and was not given back
	err     error
	ended   chan struct{}
}

// rawStream is one call of Watch.
type rawStream struct {
	c       *rawConn
	id      uint32
	room    int64
	taken   int
	partial []byte // of a message that is not complete
	// message is called by the connection's goroutine with each encoded WatchResponse, valid during the call.
	message func([]byte)
}

// rawWindow is the window of everything that comes: the largest one.
const rawWindow = 1<<31 - 1

// dialRaw connects to the member. The connection is closed with the test.
func dialRaw(tb testing.TB, m *member) *rawConn {
	tb.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(m.client, "http://"))
	noError(tb, err)
	c := &rawConn{conn: conn, w: bufio.NewWriterSize(conn, 64<<10), room: 65535, initial: 65535,
		streams: make(map[uint32]*rawStream), nextID: 1, ended: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	c.fr = http2.NewFramer(c.w, bufio.NewReaderSize(conn, 256<<10))
	c.fr.SetReuseFrames()
	_, err = io.WriteString(c.w, http2.ClientPreface)
	noError(tb, err)
	noError(tb, c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: rawWindow}))
	noError(tb, c.fr.WriteWindowUpdate(0, rawWindow-65535))
	noError(tb, c.w.Flush())
	go c.read()
	tb.Cleanup(func() {
		c.conn.Close()
		<-c.ended
	})
	return c
}

// open calls Watch. message is called by the connection's goroutine.
func (c *rawConn) open(tb testing.TB, message func([]byte)) *rawStream {
	tb.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.Watch/Watch"}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		// Not indexed: the table then stays as it is, whatever the order of writers.
		noError(tb, enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &rawStream{c: c, id: c.nextID, room: c.initial, message: message}
	c.nextID += 2
	c.streams[s.id] = s
	noError(tb, c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true}))
	noError(tb, c.w.Flush())
	return s
}

// create asks for watchers, all at once.
func (s *rawStream) create(tb testing.TB, requests ...*etcdserverpb.WatchCreateRequest) {
	tb.Helper()
	var out []byte
	for _, r := range requests {
		raw, err := proto.Marshal(&etcdserverpb.WatchRequest{
			RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: r}})
		noError(tb, err)
		out = append(out, 0)
		out = binary.BigEndian.AppendUint32(out, uint32(len(raw)))
		out = append(out, raw...)
	}
	noError(tb, s.send(out))
}

func (s *rawStream) send(p []byte) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		for (c.room <= 0 || s.room <= 0) && c.err == nil {
			c.changed.Wait()
		}
		if c.err != nil {
			return c.err
		}
		n := min(int64(len(p)), c.room, s.room, 16<<10)
		if err := errors.Join(c.fr.WriteData(s.id, false, p[:n]), c.w.Flush()); err != nil {
			return err
		}
		c.room -= n
		s.room -= n
		p = p[n:]
	}
	return nil
}

// read takes frames until the connection ends.
func (c *rawConn) read() {
	defer close(c.ended)
	for {
		f, err := c.fr.ReadFrame()
		if err == nil {
			err = c.frame(f)
		}
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.changed.Broadcast()
			c.mu.Unlock()
			return
		}
	}
}

func (c *rawConn) frame(f http2.Frame) error {
	if d, ok := f.(*http2.DataFrame); ok {
		return c.data(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, s := range c.streams {
				s.room += int64(v) - c.initial
			}
			c.initial = int64(v)
		}
		return errors.Join(c.fr.WriteSettingsAck(), c.w.Flush())
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return errors.Join(c.fr.WritePing(true, f.Data), c.w.Flush())
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.room += int64(f.Increment)
		} else if s := c.streams[f.StreamID]; s != nil {
			s.room += int64(f.Increment)
		}
	case *http2.HeadersFrame:
		if f.StreamEnded() {
			return fmt.Errorf("stream %d was ended", f.StreamID)
		}
	case *http2.RSTStreamFrame, *http2.GoAwayFrame:
		return fmt.Errorf("the server sent %v", f)
	}
	return nil
}

// data cuts what comes into messages.
func (c *rawConn) data(f *http2.DataFrame) error {
	p := f.Data()
	c.mu.Lock()
	s := c.streams[f.StreamID]
	err := errors.Join(c.giveBack(0, &c.taken, len(p)), c.giveBack(f.StreamID, &s.taken, len(p)))
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if len(s.partial) > 0 {
		s.partial = append(s.partial, p...)
		p = s.partial
	}
	for len(p) >= 5 {
		n := int(binary.BigEndian.Uint32(p[1:])) + 5
		if len(p) < n {
			break
		}
		s.message(p[5:n])
		p = p[n:]
	}
	s.partial = append(s.partial[:0], p...)
	return nil
}

// giveBack counts n bytes that came and now and then lets the server send as many again. Call it with mu held.
func (c *rawConn) giveBack(id uint32, taken *int, n int) error {
	if *taken += n; *taken < rawWindow/8 {
		return nil
	}
	n, *taken = *taken, 0
	return errors.Join(c.fr.WriteWindowUpdate(id, uint32(n)), c.w.Flush())
}

// watchResponse says what of an encoded WatchResponse the benchmarks need.
func watchResponse(raw []byte) (created bool, events int) {
	for len(raw) > 0 {
		tag, n := binary.Uvarint(raw)
		raw = raw[n:]
		v, n := binary.Uvarint(raw)
		raw = raw[n:]
		if tag&7 == 2 {
			raw = raw[v:]
		}
		switch tag >> 3 {
		case 3:
			created = v != 0
		case 11:
			events++
		}
	}
	return created, events
}
