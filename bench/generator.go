package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	windowBytes    = 1 << 30 // what a server may send before it is told that it may go on
	serverWindow   = 65535   // what HTTP/2 lets a client send at first
	headerTable    = 4096    // bytes of the table of header fields, as HTTP/2 has it without a setting
	generatorBatch = 64 << 10
)

// load is what the generator is to do.
type load struct {
	addresses   []string
	tls         *tls.Config          // nil in the clear
	requests    map[string]*prepared // by address
	connections int
	each        int // requests under way on each connection
	n           int // in all
	most        time.Duration
}

// generate keeps prebuilt requests under way until all are answered, or the time is over. One goroutine serves a connection: each
// answer makes it send another request, and it writes when nothing is left to read.
func generate(ctx context.Context, l load) (tally, error) {
	conns := make([]*generator, l.connections)
	defer func() {
		for _, g := range conns {
			if g != nil {
				g.conn.Close()
			}
		}
	}()
	for i := range conns {
		address := l.addresses[i%len(l.addresses)]
		p := l.requests[address]
		g, err := newGenerator(ctx, address, l.tls, p)
		if err != nil {
			return tally{}, err
		}
		g.drawn = i * len(p.requests) / l.connections // each begins elsewhere
		conns[i] = g
	}
	var running sync.WaitGroup
	begin := time.Now()
	for i, g := range conns {
		share := l.n*(i+1)/l.connections - l.n*i/l.connections
		running.Go(func() { g.run(begin.Add(l.most), l.each, share) })
	}
	running.Wait()
	all := tally{elapsed: time.Since(begin)}
	for _, g := range conns {
		all.add(g.tally)
	}
	return all, nil
}

// generator is one connection. Only its goroutine touches it.
type generator struct {
	conn     net.Conn
	in       *bufio.Reader
	framer   *http2.Framer
	fields   *hpack.Decoder
	requests *prepared
	out      []byte
	began    []time.Time // by number of the stream, halved
	answered []int       // bytes of the message, likewise
	drawn    int         // how many requests were taken from the prepared ones
	window   int         // what may be sent on the connection
	received uint32      // what the server has not been told of
	status   string      // gRPC's, of the header block read last
	failure  string      // its text
	tally    tally
}

// newGenerator connects and says what HTTP/2 wants said first.
func newGenerator(ctx context.Context, address string, cfg *tls.Config, p *prepared) (*generator, error) {
	dialer := net.Dialer{Timeout: operationPatience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting the generator: %w", err)
	}
	if cfg != nil {
		cfg = cfg.Clone()
		cfg.NextProtos, cfg.ServerName = []string{"h2"}, "localhost"
		secure := tls.Client(conn, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("connecting the generator: %w", err)
		}
		conn = secure
	}
	g := &generator{conn: conn, in: bufio.NewReaderSize(conn, generatorBatch), requests: p, window: serverWindow}
	g.framer = http2.NewFramer(appender{g}, g.in)
	g.framer.SetReuseFrames()
	g.fields = hpack.NewDecoder(headerTable, g.field)
	g.out = append(g.out, http2.ClientPreface...)
	err = errors.Join(
		g.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: windowBytes}),
		g.framer.WriteWindowUpdate(0, windowBytes-serverWindow), g.flush())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connecting the generator: %w", err)
	}
	return g, nil
}

// appender lets the framer write into what is sent next.
type appender struct{ g *generator }

func (a appender) Write(p []byte) (int, error) {
	a.g.out = append(a.g.out, p...)
	return len(p), nil
}

func (g *generator) flush() error {
	if len(g.out) == 0 {
		return nil
	}
	_, err := g.conn.Write(g.out)
	g.out = g.out[:0]
	return err
}

// run sends n requests, each of them under way at once, and stops sending at the end.
func (g *generator) run(end time.Time, each, n int) {
	if err := g.conn.SetDeadline(end.Add(operationPatience)); err != nil {
		g.tally.note(0, err)
		return
	}
	waiting := min(each, n) // requests that may be sent now
	underWay := 0
	for {
		for waiting > 0 && n > 0 && g.send() {
			waiting, underWay, n = waiting-1, underWay+1, n-1
		}
		if underWay == 0 && (n == 0 || waiting == 0) {
			return
		}
		ended, err := g.read()
		if err != nil {
			g.tally.note(0, fmt.Errorf("the generator's connection, %d requests under way: %w", underWay, err))
			return
		}
		if !ended {
			continue
		}
		underWay--
		waiting++
		if g.tally.errors >= clientErrorsMax || time.Now().After(end) {
			n = 0
		}
	}
}

// send puts the next request behind what is sent next; false when flow control lets none through now.
func (g *generator) send() bool {
	r := &g.requests.requests[g.drawn%len(g.requests.requests)]
	if len(g.began) == 0 {
		r = &g.requests.first
	}
	if g.window < r.flow {
		return false
	}
	g.window -= r.flow
	g.drawn++
	g.out = r.appendTo(g.out, uint32(2*len(g.began)+1))
	g.began = append(g.began, time.Now())
	g.answered = append(g.answered, 0)
	return true
}

// read reads one frame, after having written what is to be sent if it would have to wait, and says whether a request has ended.
func (g *generator) read() (ended bool, err error) {
	if g.in.Buffered() == 0 || len(g.out) > generatorBatch {
		if err := g.flush(); err != nil {
			return false, err
		}
	}
	frame, err := g.framer.ReadFrame()
	if err != nil {
		return false, err
	}
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		return g.headers(f)
	case *http2.DataFrame:
		return false, g.data(f)
	case *http2.SettingsFrame:
		return false, g.settings(f)
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			g.window += int(f.Increment)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return false, g.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		return true, g.end(f.StreamID, fmt.Errorf("the server reset the stream: %v", f.ErrCode))
	case *http2.GoAwayFrame:
		return false, fmt.Errorf("the server goes away: %v, %s", f.ErrCode, f.DebugData())
	case *http2.ContinuationFrame:
		return false, errors.New("the server continues headers, which this client does not read")
	}
	return false, nil
}

// settings accepts the server's.
func (g *generator) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok && v < framesBytesMax+messageHeaderBytes {
		return fmt.Errorf("the server lets a stream send %d bytes only", v)
	}
	return g.framer.WriteSettingsAck()
}

// data counts a part of an answer.
func (g *generator) data(f *http2.DataFrame) error {
	if i := int(f.StreamID / 2); i < len(g.answered) {
		g.answered[i] += len(f.Data())
	}
	if f.StreamEnded() {
		return errors.New("the server ended a stream without gRPC's status")
	}
	if g.received += f.Length; g.received < windowBytes/4 {
		return nil
	}
	n := g.received
	g.received = 0
	return g.framer.WriteWindowUpdate(0, n)
}

// headers reads a header block; the last one of a stream has gRPC's status.
func (g *generator) headers(f *http2.HeadersFrame) (ended bool, err error) {
	if !f.HeadersEnded() {
		return false, errors.New("the server continues headers, which this client does not read")
	}
	g.status, g.failure = "", ""
	if _, err := g.fields.Write(f.HeaderBlockFragment()); err != nil {
		return false, err
	}
	if err := g.fields.Close(); err != nil {
		return false, err
	}
	if !f.StreamEnded() {
		return false, nil
	}
	if g.status != "0" {
		return true, g.end(f.StreamID, fmt.Errorf("gRPC status %q: %s", g.status, g.failure))
	}
	return true, g.end(f.StreamID, nil)
}

// field is told every header field.
func (g *generator) field(f hpack.HeaderField) {
	switch f.Name {
	case "grpc-status":
		g.status = f.Value
	case "grpc-message":
		g.failure = f.Value
	}
}

// end notes that a request has ended; it has failed too when its answer is too short to be one.
func (g *generator) end(stream uint32, failure error) error {
	i := int(stream / 2)
	if i >= len(g.began) {
		return fmt.Errorf("the server ended stream %d, which does not exist", stream)
	}
	if failure == nil && g.answered[i] < g.requests.answerBytesMin {
		failure = fmt.Errorf("an answer of %d bytes, where there are %d at least", g.answered[i], g.requests.answerBytesMin)
	}
	g.tally.note(time.Since(g.began[i]), failure)
	return nil
}
