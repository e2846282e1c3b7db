package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A client in the line of a lock that goes away leaves the line, however its request came.
func TestAWaitingClientThatGoesIsNoticed(t *testing.T) {
	t.Parallel()
	const request = `{"name":"TA=="}` // L
	tail := strings.Repeat("\n", 5000)
	for _, c := range []struct {
		name string
		wait func(ctx context.Context, l *gatewayLab) io.Closer
	}{
		{"a body of a known length", sends("Content-Length: %d\r\n\r\n%s", len(request), request)},
		{"one that goes on after the request", sends("Content-Length: %d\r\n\r\n%s", len(request+tail), request+tail)},
		{"one in chunks", sends("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(request), request)},
		{"a websocket", sendsMessages(request)},
		{"one with a long message", sendsMessages(request + tail)},
		{"one with more messages than one", sendsMessages(request, request, request)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newGatewayLab(t, Options{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			events := l.eventsOf(ctx, "TC8=", "TDA=") // L/ to L0, the line
			if status, got := l.post("/v3/lock/lock", request); status != 200 {
				t.Fatal(got)
			}
			if e := events(); e.Type != "" {
				t.Fatalf("the owner's key: %v", e)
			}
			waiting := c.wait(ctx, l)
			came := events()
			_ = waiting.Close()
			if left := events(); left.Type != "DELETE" || left.KV.Key != came.KV.Key {
				t.Errorf("%v came, and then %v", came, left)
			}
		})
	}
}

// event is one of a watch by JSON.
type event struct {
	Type string
	KV   struct{ Key string }
}

// eventsOf watches a range, and returns a function that returns its next event.
func (l *gatewayLab) eventsOf(ctx context.Context, key, end string) func() event {
	l.t.Helper()
	body := fmt.Sprintf(`{"create_request":{"key":%q,"range_end":%q}}`, key, end)
	d := json.NewDecoder(l.open(ctx, "/v3/watch", strings.NewReader(body)).Body)
	var pending []event
	next := func() event {
		l.t.Helper()
		for len(pending) == 0 {
			var line struct{ Result struct{ Events []event } }
			if err := d.Decode(&line); err != nil {
				l.t.Fatal(err)
			}
			pending = line.Result.Events
		}
		e := pending[0]
		pending = pending[1:]
		return e
	}
	var created struct{ Result struct{ Created bool } }
	if err := d.Decode(&created); err != nil || !created.Result.Created {
		l.t.Fatal(created, err)
	}
	return next
}

// sends returns a function that asks for a lock by a request whose headers end as the format says, and does not wait for the answer.
func sends(format string, args ...any) func(ctx context.Context, l *gatewayLab) io.Closer {
	return func(ctx context.Context, l *gatewayLab) io.Closer {
		l.t.Helper()
		c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(l.url, "http://"))
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = c.Close() })
		if _, err := fmt.Fprintf(c, "POST /v3/lock/lock HTTP/1.1\r\nHost: localhost\r\n"+format, args...); err != nil {
			l.t.Fatal(err)
		}
		return c
	}
}

// sendsMessages returns a function that asks for a lock by the first message on a websocket.
func sendsMessages(messages ...string) func(ctx context.Context, l *gatewayLab) io.Closer {
	return func(ctx context.Context, l *gatewayLab) io.Closer {
		l.t.Helper()
		c, _, err := l.dial(ctx, "/v3/lock/lock", nil)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, m := range messages {
			if err := c.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
				l.t.Fatal(err)
			}
		}
		return closer(c.CloseNow)
	}
}

type closer func() error

func (f closer) Close() error { return f() }
