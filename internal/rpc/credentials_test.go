package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

func TestACertificateNamesAUserOnlyWhenItWasVerified(t *testing.T) {
	t.Parallel()
	alice := &x509.Certificate{Subject: pkix.Name{CommonName: "alice"}}
	with := func(state tls.ConnectionState) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
	}
	verified := with(tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}, VerifiedChains: [][]*x509.Certificate{{alice}}})
	_, clear, err := insecure.NewCredentials().ServerHandshake(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"a verified certificate":       {verified, "alice"},
		"one that was only shown":      {with(tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}}), ""},
		"none":                         {with(tls.ConnectionState{}), ""},
		"one of a gateway":             {metadata.NewIncomingContext(verified, metadata.Pairs(gatewayHeader, "*/*")), ""},
		"no TLS":                       {peer.NewContext(t.Context(), &peer.Peer{AuthInfo: clear}), ""},
		"a request from nowhere":       {t.Context(), ""},
		"a request without credential": {peer.NewContext(t.Context(), &peer.Peer{}), ""},
	} {
		if got := CertificateUser(c.ctx); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
