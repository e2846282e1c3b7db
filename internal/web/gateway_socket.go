package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// tokenCookie is the cookie that may hold a client's token, as browsers can set no header on a websocket.
const tokenCookie = "token"

func isWebsocket(r *http.Request) bool {
	return headerHas(r.Header, "Connection", "upgrade") && headerHas(r.Header, "Upgrade", "websocket")
}

// headerHas tells whether a header, a list, holds an element.
func headerHas(h http.Header, name, element string) bool {
	for _, v := range h.Values(name) {
		for e := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(e), element) {
				return true
			}
		}
	}
	return false
}

// serveSocket answers a call over a websocket, as etcd does: each message of the client is a request in JSON, each message
// back a line of what the same call by POST would answer. The socket is closed when the call ends.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); !g.mayOpen(origin, r.Host) {
		// A page may open a websocket to any server, and its cookies go along: the list has to be held to here.
		http.Error(w, fmt.Sprintf("origin %q is not allowed: --cors lists those that are", origin), http.StatusForbidden)
		return
	}
	o := &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	protocol := strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ",")
	if strings.HasPrefix(protocol, "Bearer") {
		o.Subprotocols = []string{"Bearer"}
	}
	c, err := websocket.Accept(w, r, o)
	if err != nil {
		return // the client was told
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(g.bodyMax)
	// The request's context is of no use: it may end with the handover of the connection.
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL.RequestURI(), nil)
	if err != nil {
		return
	}
	call.URL, call.Host, call.RemoteAddr, call.TLS = r.URL, r.Host, r.RemoteAddr, r.TLS
	call.Header.Set("Content-Type", "application/json")
	if token := socketToken(r, protocol); token != "" {
		call.Header.Set("Authorization", "Bearer "+token)
	}
	in, out := io.Pipe()
	defer func() { _ = in.Close() }()
	call.Body = in
	go receive(ctx, cancel, c, out)
	answers := &socketWriter{ctx: ctx, conn: c, header: make(http.Header)}
	g.answer(answers, call, &body{many: slices.Contains(streaming, r.URL.Path), came: func() { _ = in.Close() }})
	if answers.send(true) == nil && ctx.Err() == nil {
		_ = c.Close(websocket.StatusNormalClosure, "")
	}
}

// mayOpen tells whether a page of an origin may open a websocket. Clients that are no browsers name none.
func (g *Gateway) mayOpen(origin, host string) bool {
	if origin == "" || g.origins.match(origin) != "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// socketToken returns the token of a client: in the list of protocols after the word Bearer, which is what a page can set, in
// a cookie, which goes before it, or in the header of other clients.
func socketToken(r *http.Request, protocol string) string {
	if c, err := r.Cookie(tokenCookie); err == nil && c.Value != "" {
		return c.Value
	}
	if _, token, ok := strings.Cut(protocol, "Bearer,"); ok {
		return strings.TrimSpace(token)
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// receive writes the messages of a client to the body of its call; those that the call does not want are passed over. A client that
// has gone ends the call.
func receive(ctx context.Context, cancel context.CancelFunc, c *websocket.Conn, out *io.PipeWriter) {
	defer cancel()
	for {
		_, message, err := c.Read(ctx)
		if err != nil {
			_ = out.CloseWithError(io.EOF)
			return
		}
		_, _ = out.Write(append(message, '\n'))
	}
}

// socketWriter sends what a handler writes, a line a message.
type socketWriter struct {
	ctx    context.Context
	conn   *websocket.Conn
	header http.Header
	buf    []byte
}

// Header implements http.ResponseWriter. The headers go nowhere: the websocket's were sent.
func (s *socketWriter) Header() http.Header { return s.header }

// WriteHeader implements http.ResponseWriter. Whether a call failed is told by its answer.
func (s *socketWriter) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (s *socketWriter) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	return len(p), nil
}

// FlushError is what http.ResponseController flushes by.
func (s *socketWriter) FlushError() error { return s.send(false) }

// send sends the lines that are whole, and at the end the rest.
func (s *socketWriter) send(end bool) error {
	for len(s.buf) > 0 {
		line, rest, whole := bytes.Cut(s.buf, []byte("\n"))
		if !whole && !end {
			return nil
		}
		s.buf = rest
		if len(line) == 0 {
			continue
		}
		if err := s.conn.Write(s.ctx, websocket.MessageText, line); err != nil {
			return errors.Join(errors.New("write to a websocket"), err)
		}
	}
	return nil
}
