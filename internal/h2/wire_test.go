package h2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is a client that speaks frames and may break every rule.
type wire struct {
	t    testing.TB
	conn net.Conn

	write sync.Mutex // guards fr's writing half, block and encode
	fr    *http2.Framer
	block bytes.Buffer
	pack  *hpack.Encoder
	next  uint32

	packed uint32 // the next stream when the table's size was last changed

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every event
	streams  map[uint32]*reply
	pings    map[[8]byte]bool // answered
	settings map[http2.SettingID]uint32
	acks     int // of our settings
	updates  map[uint32]int64
	goaways  []http2.GoAwayFrame
	debugs   []string
	over     bool
	noPong   bool        // pings of the server are noted, not answered
	pinged   []asked     // pings of the server
	account  flowAccount // what the server may send
}

// asked is a ping of the server.
type asked struct {
	data [8]byte
	gone int // how many GOAWAY were before it
}

// reply is what came on a stream.
type reply struct {
	heads []string // header blocks, as text
	data  bytes.Buffer
	where []int // how many header blocks were before each piece of data
	ended bool  // END_STREAM or RST_STREAM
	reset string
}

// wire connects with a preface and empty settings.
func (l *lab) wire(t testing.TB) *wire {
	t.Helper()
	w := l.plug(t)
	w.hello()
	w.listen()
	return w
}

// plug connects and sends nothing.
func (l *lab) plug(t testing.TB) *wire {
	t.Helper()
	conn, err := net.Dial(l.address.Network(), l.address.String())
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, conn)
}

func newWire(t testing.TB, conn net.Conn) *wire {
	w := &wire{t: t, conn: conn, fr: http2.NewFramer(conn, conn), next: 1, changed: make(chan struct{}), streams: map[uint32]*reply{},
		pings: map[[8]byte]bool{}, settings: map[http2.SettingID]uint32{}, updates: map[uint32]int64{}, account: newAccount()}
	w.pack = hpack.NewEncoder(&w.block)
	w.fr.AllowIllegalWrites, w.fr.AllowIllegalReads = true, true
	w.fr.SetMaxReadFrameSize(1 << 24)
	t.Cleanup(func() { _ = conn.Close() })
	return w
}

// hello sends the preface and settings.
func (w *wire) hello(settings ...http2.Setting) {
	w.raw([]byte(http2.ClientPreface))
	w.set(settings...)
}

// set sends settings.
func (w *wire) set(settings ...http2.Setting) {
	w.mu.Lock()
	w.account.announced(settings)
	w.mu.Unlock()
	w.send(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
}

// grant sends a WINDOW_UPDATE.
func (w *wire) grant(id, n uint32) {
	w.mu.Lock()
	w.account.granted(id, int64(n))
	w.mu.Unlock()
	w.send(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, n) })
}

// wide is a connection whose windows never close.
func (l *lab) wide(t testing.TB) *wire {
	t.Helper()
	w := l.plug(t)
	w.widen()
	w.listen()
	return w
}

func (w *wire) widen() {
	w.hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	w.grant(0, 1<<30)
}

// pong answers a ping of the server.
func (w *wire) pong(data [8]byte) {
	w.send(func(f *http2.Framer) error { return f.WritePing(true, data) })
}

// send writes a frame. A connection that the server has ended takes none, which is no failure.
func (w *wire) send(f func(*http2.Framer) error) {
	w.write.Lock()
	defer w.write.Unlock()
	_ = f(w.fr)
}

func (w *wire) raw(b []byte) {
	w.write.Lock()
	defer w.write.Unlock()
	_, _ = w.conn.Write(b)
}

// pairs are the headers of a call of a method of lab.Lab, with more after them.
func pairs(method string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":path", "/lab.Lab/" + method, ":authority", "lab",
		"content-type", "application/grpc", "te", "trailers"}, more...)
}

// headers sends a header block as it is given.
func (w *wire) headers(id uint32, end bool, kv ...string) {
	w.send(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(kv), EndStream: end, EndHeaders: true})
	})
}

// encode is called with write held, or before anyone else writes.
func (w *wire) encode(kv []string) []byte {
	w.block.Reset()
	for i := 0; i+1 < len(kv); i += 2 {
		_ = w.pack.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return w.block.Bytes()
}

// call opens the next stream.
func (w *wire) call(method string, more ...string) uint32 {
	id := w.next
	w.next += 2
	w.headers(id, false, pairs(method, more...)...)
	return id
}

// enclosed is a message with its prefix.
func enclosed(b []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b)))
	return append(out, b...)
}

// message sends a message in frames of the size that every server takes.
func (w *wire) message(id uint32, b []byte, end bool) {
	all := enclosed(b)
	for len(all) > 16384 {
		w.data(id, all[:16384], false)
		all = all[16384:]
	}
	w.data(id, all, end)
}

func (w *wire) data(id uint32, b []byte, end bool) {
	w.send(func(f *http2.Framer) error { return f.WriteData(id, end, b) })
}

// listen starts to read; a wire that does not listen lets the server's writes pile up.
func (w *wire) listen() {
	unpack := hpack.NewDecoder(4096, nil)
	go func() {
		for {
			f, err := w.fr.ReadFrame()
			if err != nil {
				w.note(func() { w.over = true })
				return
			}
			w.take(f, unpack)
		}
	}()
}

// note changes what is known under the lock and tells whoever waits.
func (w *wire) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *wire) take(f http2.Frame, unpack *hpack.Decoder) {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.HeadersFrame:
		block := slices.Clone(f.HeaderBlockFragment())
		ended := f.StreamEnded()
		for done := f.HeadersEnded(); !done; {
			c, err := w.fr.ReadFrame()
			more, ok := c.(*http2.ContinuationFrame)
			if err != nil || !ok {
				w.t.Errorf("after a header block without its end comes %v, %v", c, err)
				return
			}
			block, done = append(block, more.HeaderBlockFragment()...), more.HeadersEnded()
		}
		fields, err := unpack.DecodeFull(block)
		if err != nil {
			w.t.Errorf("a header block of the server: %v", err)
		}
		w.note(func() {
			r := w.reply(id)
			r.heads = append(r.heads, text(fields))
			r.ended = r.ended || ended
		})
	case *http2.DataFrame:
		w.note(func() {
			r := w.reply(id)
			if !w.account.spend(id, int64(f.Length)) {
				w.t.Errorf("the server sends %d bytes on stream %d beyond its window", f.Length, id)
			}
			r.data.Write(f.Data())
			if len(r.where) == 0 || r.where[len(r.where)-1] != len(r.heads) {
				r.where = append(r.where, len(r.heads))
			}
			r.ended = r.ended || f.StreamEnded()
		})
	case *http2.RSTStreamFrame:
		w.note(func() { w.reply(id).reset, w.reply(id).ended = f.ErrCode.String(), true })
	case *http2.SettingsFrame:
		if f.IsAck() {
			w.note(func() { w.acks++; w.account.acknowledged() })
			return
		}
		w.note(func() {
			_ = f.ForeachSetting(func(s http2.Setting) error { w.settings[s.ID] = s.Val; return nil })
		})
		w.send(func(f *http2.Framer) error { return f.WriteSettingsAck() })
	case *http2.PingFrame:
		if f.IsAck() {
			w.note(func() { w.pings[f.Data] = true })
			return
		}
		w.note(func() { w.pinged = append(w.pinged, asked{f.Data, len(w.goaways)}) })
		if !w.noPong {
			w.pong(f.Data)
		}
	case *http2.WindowUpdateFrame:
		w.note(func() { w.updates[id] += int64(f.Increment) })
	case *http2.GoAwayFrame:
		w.note(func() { w.goaways, w.debugs = append(w.goaways, *f), append(w.debugs, string(f.DebugData())) })
	default:
		w.t.Errorf("the server sends %v", f.Header())
	}
}

func (w *wire) reply(id uint32) *reply {
	if w.streams[id] == nil {
		w.streams[id] = new(reply)
	}
	return w.streams[id]
}

// text is a header block in one line. An empty grpc-message says nothing.
func text(fields []hpack.HeaderField) string {
	var parts []string
	for _, f := range fields {
		if f.Name != "grpc-message" || f.Value != "" {
			parts = append(parts, f.Name+"="+f.Value)
		}
	}
	return strings.Join(parts, " ")
}

// wait returns once the condition holds, or false when the connection is over without it.
func (w *wire) wait(what string, condition func() bool) bool {
	w.t.Helper()
	limit := time.After(patience)
	for {
		w.mu.Lock()
		ok, over, changed := condition(), w.over, w.changed
		w.mu.Unlock()
		if ok || over {
			return ok
		}
		select {
		case <-changed:
		case <-limit:
			w.t.Fatalf("%s: does not come; %s\n%s", what, w.verdict(), stacks())
		}
	}
}

// ended waits for the end of streams.
func (w *wire) ended(ids ...uint32) {
	w.t.Helper()
	for _, id := range ids {
		w.wait(fmt.Sprintf("the end of stream %d", id), func() bool { return w.reply(id).ended })
	}
}

// settle waits until the server has looked at all that was sent, or has ended the connection.
func (w *wire) settle() {
	w.t.Helper()
	mark := [8]byte{'s', 'e', 't', 't', 'l', 'e'}
	w.mu.Lock()
	delete(w.pings, mark)
	w.mu.Unlock()
	w.send(func(f *http2.Framer) error { return f.WritePing(false, mark) })
	w.wait("the answer to a ping", func() bool { return w.pings[mark] || w.broken() != "" })
}

// closed waits for the end of the connection.
func (w *wire) closed() {
	w.t.Helper()
	w.wait("the end of the connection", func() bool { return w.over })
}

// refused waits until the server has done with the connection: it has ended it, or has told why it will.
func (w *wire) refused() {
	w.t.Helper()
	w.wait("the end of the connection or a word of it", func() bool { return w.broken() != "" })
}

// broken is the error of the connection that the server has told.
func (w *wire) broken() string {
	for i := range w.goaways {
		if w.goaways[i].ErrCode != http2.ErrCodeNo {
			return w.goaways[i].ErrCode.String()
		}
	}
	return ""
}

// verdict is all that the server has said, stream by stream, without the frames that it may send at any time.
func (w *wire) verdict() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(w.streams)) {
		if s := w.streams[id].String(); s != "" {
			lines = append(lines, fmt.Sprintf("%d: %s", id, s))
		}
	}
	if w.over || w.broken() != "" {
		lines = append(lines, "cut")
	}
	return strings.Join(lines, "\n")
}

func (r *reply) String() string {
	var parts []string
	for i, h := range r.heads {
		if slices.Contains(r.where, i) {
			parts = append(parts, r.body())
		}
		parts = append(parts, h)
	}
	if slices.Contains(r.where, len(r.heads)) {
		parts = append(parts, r.body())
	}
	if r.reset != "" {
		parts = append(parts, r.reset)
	} else if !r.ended && len(parts) > 0 {
		parts = append(parts, "...")
	}
	return strings.Join(parts, " | ")
}

// body tells the messages of a stream.
func (r *reply) body() string {
	var out []string
	b := r.data.Bytes()
	for len(b) >= 5 {
		n := int(binary.BigEndian.Uint32(b[1:]))
		if len(b) < 5+n {
			break
		}
		m := string(b[5 : 5+n])
		if n > 20 {
			m = fmt.Sprintf("%d bytes", n)
		}
		out, b = append(out, fmt.Sprintf("%q", m)), b[5+n:]
	}
	if len(b) > 0 {
		out = append(out, fmt.Sprintf("%d bytes of a message", len(b)))
	}
	return strings.Join(out, " ")
}

// received returns how many bytes of DATA a stream has brought.
func (w *wire) received(id uint32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reply(id).data.Len()
}

// drained reads until the end of a connection that does not listen.
func (w *wire) drained() error {
	_ = w.conn.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, w.conn)
	if err != nil && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
