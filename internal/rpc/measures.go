package rpc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/measure"
)

// codesMax is how many status codes there are.
const codesMax = int(codes.Unauthenticated) + 1

// versionsMax bounds the versions of clients that are told apart; further ones count as "other".
const versionsMax = 32

// Measures are what the services of a member count. Make one with NewMeasures; it may be read at any time.
type Measures struct {
	// BytesReceived and BytesSent are those of messages from and to clients.
	BytesReceived, BytesSent measure.Counter
	// Ranges are the times of ranges that the store was asked for, at once or as a stream, ReadOnlyTxns those of transactions that do not go
	// through the log.
	Ranges, ReadOnlyTxns *measure.Outcomes
	// RangeRequests are the times of Range requests.
	RangeRequests *measure.Outcomes
	// Reads counts the operations that were answered outside the log.
	Reads apply.Counts
	// WatchEvents, WatchEventsEach, WatchControls and WatchProgress are the times of writing watch responses: those with events, the
	// same for each event, those of the beginning and the end of watchers, and progress messages.
	WatchEvents, WatchEventsEach, WatchControls, WatchProgress *measure.Histogram
	// Prefixes are the prefixes of keys whose requests cost most, of one request in PrefixSample.
	Prefixes *measure.Top

	extensive bool
	calls     map[string]*Calls // by full method; complete before the first request
	clients   clients
	sample    atomic.Uint64
}

// PrefixSample is how many requests one stands for in Measures.Prefixes.
const PrefixSample = 64

// prefixPlaces is the number of prefixes that are kept in mind, prefixMax the bytes of one.
const (
	prefixPlaces = 128
	prefixMax    = 64
)

// Calls count those of one method.
type Calls struct {
	// Service, Method and Type are the labels of its metrics; Type is unary, client_stream, server_stream or bidi_stream.
	Service, Method, Type string
	// Started counts calls that began, Handled by their status those that ended.
	Started measure.Counter
	Handled [codesMax]measure.Counter
	// Received and Sent count messages. As in etcd an error in place of one counts, too: that of a unary call, or one that ends a stream.
	Received, Sent measure.Counter
	// Times are those of calls; nil unless measures are extensive.
	Times *measure.Histogram
}

// CodeName returns the name of the status code at a place of Calls.Handled.
func CodeName(i int) string { return codes.Code(i).String() }

// callBounds are those of grpc_server_handling_seconds: 5 ms to 10 s.
func callBounds() []int64 {
	ms := []int64{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}
	for i := range ms {
		ms[i] *= int64(time.Millisecond)
	}
	return ms
}

// NewMeasures returns measures without an observation. extensive adds the times of calls.
func NewMeasures(extensive bool) *Measures {
	ranges, disk := measure.Durations(100*time.Microsecond, 20), measure.Durations(time.Millisecond, 14)
	return &Measures{
		Ranges: measure.NewOutcomes(ranges), RangeRequests: measure.NewOutcomes(disk), ReadOnlyTxns: measure.NewOutcomes(disk),
		WatchEvents: measure.NewHistogram(disk), WatchEventsEach: measure.NewHistogram(disk),
		WatchControls: measure.NewHistogram(disk), WatchProgress: measure.NewHistogram(disk),
		Prefixes: measure.NewTop(prefixPlaces), extensive: extensive, calls: make(map[string]*Calls),
	}
}

// Know makes the methods of all services of a server known. REQUIRES: it does not serve yet.
func (m *Measures) Know(services map[string]grpc.ServiceInfo) {
	for service, info := range services {
		for _, method := range info.Methods {
			c := &Calls{Service: service, Method: method.Name, Type: typeOf(method.IsClientStream, method.IsServerStream)}
			if m.extensive {
				c.Times = measure.NewHistogram(callBounds())
			}
			m.calls["/"+service+"/"+method.Name] = c
		}
	}
}

func typeOf(client, server bool) string {
	switch {
	case client && server:
		return "bidi_stream"
	case client:
		return "client_stream"
	case server:
		return "server_stream"
	default:
		return "unary"
	}
}

// EachCalls calls f for each method, in no order.
func (m *Measures) EachCalls(f func(*Calls)) {
	for _, c := range m.calls {
		f(c)
	}
}

// begin counts the beginning of a call.
func (m *Measures) begin(ctx context.Context, method, kind string) (*Calls, time.Time) {
	m.client(ctx, kind)
	c := m.calls[method]
	if c == nil {
		c = new(Calls) // nobody has called Know: it is told to nobody
	}
	c.Started.Inc()
	if c.Times == nil {
		return c, time.Time{}
	}
	return c, time.Now()
}

// counted is a stream whose messages are counted.
type counted struct {
	grpc.ServerStream
	calls *Calls
}

// RecvMsg implements grpc.ServerStream.
func (c counted) RecvMsg(m any) error {
	err := c.ServerStream.RecvMsg(m)
	c.calls.Received.Inc()
	return err
}

// SendMsg implements grpc.ServerStream.
func (c counted) SendMsg(m any) error {
	err := c.ServerStream.SendMsg(m)
	c.calls.Sent.Inc()
	return err
}

// ended counts the end of a call.
func (c *Calls) ended(err error, begin time.Time) {
	c.Handled[min(int(status.Code(err)), codesMax-1)].Inc()
	if c.Times != nil {
		c.Times.Took(time.Since(begin))
	}
}

// clients count requests by what clients say of themselves.
type clients struct {
	mu sync.RWMutex
	m  map[Client]*clientCount
	// last is that of the last request that was not of the kind of the one before: most are of one kind.
	last atomic.Pointer[clientCount]
}

type clientCount struct {
	kind Client
	n    measure.Counter
}

// Client is a kind of request: Type is unary or stream, Version the version of the API that the client speaks, or "unknown".
type Client struct{ Type, Version string }

// EachClient calls f for each kind of request that came, in no order.
func (m *Measures) EachClient(f func(Client, uint64)) {
	m.clients.mu.RLock()
	defer m.clients.mu.RUnlock()
	for k, c := range m.clients.m {
		f(k, c.n.Value())
	}
}

// client counts a request of the given type.
func (m *Measures) client(ctx context.Context, kind string) {
	k := Client{kind, "unknown"}
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(v) > 0 {
		k.Version = v[0]
	}
	if last := m.clients.last.Load(); last != nil && last.kind == k {
		last.n.Inc()
		return
	}
	m.clients.mu.RLock()
	c := m.clients.m[k]
	m.clients.mu.RUnlock()
	if c == nil {
		c = m.clients.add(k)
	}
	c.n.Inc()
	m.clients.last.Store(c)
}

// add returns the count of a kind that is new, or that of all others when there are too many.
func (c *clients) add(k Client) *clientCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= versionsMax || !plain(k.Version) {
		k.Version = "other"
	}
	if c.m == nil {
		c.m = make(map[Client]*clientCount)
	}
	if c.m[k] == nil {
		c.m[k] = &clientCount{kind: k}
	}
	return c.m[k]
}

// plain says whether a client's version is short and printable.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= 32
}

// ranged counts a range that the store was asked for.
func (m *Measures) ranged(begin time.Time, err error) {
	m.Reads.Ranges.Inc()
	m.Ranges.Of(err).Took(time.Since(begin))
}

// cost counts one request in PrefixSample under the prefix of its key.
func (m *Measures) cost(key []byte, bytes int) {
	if m.sample.Add(1)%PrefixSample == 0 {
		m.Prefixes.Add(prefixOf(key), 1, uint64(bytes))
	}
}

// prefixOf returns the beginning of a key up to and with its second slash after the first byte, as /registry/pods/, or at most
// prefixMax bytes of it.
func prefixOf(key []byte) []byte {
	slashes := 0
	for i, b := range key {
		if i >= prefixMax {
			return key[:prefixMax]
		}
		if b == '/' && i > 0 {
			if slashes++; slashes == 2 {
				return key[:i+1]
			}
		}
	}
	if i := lastSlash(key); i >= 0 {
		return key[:i+1]
	}
	return nil
}

// lastSlash returns the place of the last slash, -1 when there is none.
func lastSlash(key []byte) int {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] == '/' {
			return i
		}
	}
	return -1
}
