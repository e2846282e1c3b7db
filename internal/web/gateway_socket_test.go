package web

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// dial opens a websocket to a path of the gateway.
func (l *gatewayLab) dial(ctx context.Context, path string, o *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(l.url, "http")+path, o)
	if err == nil {
		l.t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, resp, err
}

// talk sends a message, unless it is empty, and compares the answer, unless that is empty.
func talk(ctx context.Context, t *testing.T, c *websocket.Conn, say, want string) {
	t.Helper()
	if say != "" {
		if err := c.Write(ctx, websocket.MessageText, []byte(say)); err != nil {
			t.Fatal(err)
		}
	}
	if want == "" {
		return
	}
	_, got, err := c.Read(ctx)
	if err != nil {
		t.Fatalf("%v, want %s", err, want)
	}
	wantJSON(t, string(got), want)
}

func TestGatewayOverAWebsocket(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, _, err := l.dial(ctx, "/v3/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	talk(ctx, t, c, `{"create_request":{"key":"YQ=="}}`, `{"result":{"created":true}}`)
	talk(ctx, t, c, `{"create_request":{"key":"Yg==","watch_id":5}}`, `{"result":{"created":true,"watch_id":"5"}}`)
	if status, got := l.post("/v3/kv/put", `{"key":"Yg=="}`); status != 200 {
		t.Fatal(got)
	}
	talk(ctx, t, c, ``, `{"result":{"watch_id":"5","events":[{"kv":{"key":"Yg==","create_revision":"2","mod_revision":"2","version":"1"}}]}}`)
	talk(ctx, t, c, `{"cancel_request":{"watch_id":5}}`, `{"result":{"watch_id":"5","canceled":true}}`)
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}

	c, _, err = l.dial(ctx, "/v3/kv/range", nil)
	if err != nil {
		t.Fatal(err)
	}
	talk(ctx, t, c, `{"key":"YQ=="}`, `{}`)
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("after the answer: %v", err)
	}
}

func TestATokenOfAWebsocket(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, c := range []struct {
		name string
		o    websocket.DialOptions
		want string
	}{
		{"none", websocket.DialOptions{}, ""},
		{"in the list of protocols", websocket.DialOptions{Subprotocols: []string{"Bearer", "T.1"}}, "Bearer T.1"},
		{"in a cookie", websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"token=T.2"}}}, "Bearer T.2"},
		{"in a header", websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"T.3"}}}, "Bearer T.3"},
	} {
		conn, _, err := l.dial(ctx, "/v3/kv/range", &c.o)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		talk(ctx, t, conn, `{"key":"YQ=="}`, `{}`)
		if got := strings.Join((<-l.tokens).Get("authorization"), ","); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPagesOfOtherOriginsOpenNoWebsocket(t *testing.T) {
	t.Parallel()
	l := newGatewayLab(t, Options{Origins: []string{"http://page.example:80"}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for origin, allowed := range map[string]bool{"http://page.example:80": true, "http://other.example": false, l.url: true, "": true} {
		o := &websocket.DialOptions{HTTPHeader: http.Header{}}
		if origin != "" {
			o.HTTPHeader.Set("Origin", origin)
		}
		_, resp, err := l.dial(ctx, "/v3/watch", o)
		if (err == nil) != allowed || !allowed && resp.StatusCode != http.StatusForbidden {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
}
