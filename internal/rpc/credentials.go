package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Credentials returns the credentials of a server whose connections have their TLS handshake behind them, or have none. The
// peer's AuthInfo of a request is a credentials.TLSInfo where there is TLS.
func Credentials() credentials.TransportCredentials { return handshaken{} }

// TLSState returns the TLS state of a connection that was accepted, nil when it has none. It looks through connections that
// have a method NetConn.
func TLSState(c net.Conn) *tls.ConnectionState {
	for c != nil {
		if t, ok := c.(*tls.Conn); ok {
			state := t.ConnectionState()
			return &state
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = outer.NetConn()
	}
	return nil
}

// handshaken takes connections as they are.
type handshaken struct{}

var errServerOnly = errors.New("these credentials are of a server")

// ServerHandshake implements credentials.TransportCredentials.
func (handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	state := TLSState(c)
	if state == nil {
		return insecure.NewCredentials().ServerHandshake(c)
	}
	return c, credentials.TLSInfo{
		State: *state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (handshaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errServerOnly
}

// Info implements credentials.TransportCredentials.
func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (h handshaken) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (handshaken) OverrideServerName(string) error { return errServerOnly }

// CertificateUser returns the user that a request's client certificate names: its common name, if its authority was verified. A
// gateway passes the requests of others on with a certificate of its own, which says nothing about them: such requests are of
// nobody, as in etcd.
func CertificateUser(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || len(metadata.ValueFromIncomingContext(ctx, gatewayHeader)) > 0 {
		return ""
	}
	return certificateName(p)
}

// certificateName returns the common name in the client's certificate, "" when it has none that was verified.
func certificateName(p *peer.Peer) string {
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return ""
	}
	for _, chain := range info.State.VerifiedChains {
		if len(chain) > 0 {
			return chain[0].Subject.CommonName
		}
	}
	return ""
}

// gatewayHeader is sent by every grpc-gateway.
const gatewayHeader = "grpcgateway-accept"
