package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/ashlar-kv/ashlar/internal/rpc"
)

// tlsKey is the key of a connection's TLS state in its context.
type tlsKey struct{}

// Prepare makes a server fit for the HTTP half of Split, before it serves: it speaks both versions of HTTP on connections that
// are in the clear or have their TLS handshake behind them, and its requests know the TLS state of their connection.
func Prepare(s *http.Server) {
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	// To the server, connections that were looked at are in the clear.
	s.Protocols.SetUnencryptedHTTP2(true)
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, tlsKey{}, rpc.TLSState(c))
	}
	h := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state, _ := r.Context().Value(tlsKey{}).(*tls.ConnectionState); r.TLS == nil {
			r.TLS = state
		}
		h.ServeHTTP(w, r)
	})
}
