package tlsconf

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// checkEvery is the least time between two looks at the files.
const checkEvery = time.Second

// Source keeps the material of one side. Its methods, and the configurations that it makes, may be used from any goroutine.
type Source struct {
	o       Options
	current atomic.Pointer[material]
	checked atomic.Pointer[time.Time] // when the files were last looked at

	reading sync.Mutex    // held while the files are looked at
	stamps  []os.FileInfo // the files of current, nil for one that was not there; none while some cannot be used
	refused []os.FileInfo // the files that the log was last told cannot be used
}

// Open reads the files. Whatever cannot be used is an error that names it.
func Open(o Options) (*Source, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Source{o: o, stamps: stamp(o.files())}
	m, err := o.read(material{})
	if err != nil {
		return nil, fmt.Errorf("%s TLS: %w", o.Side, err)
	}
	s.current.Store(m)
	opened := o.Clock.Now()
	s.checked.Store(&opened)
	return s, nil
}

// Server returns the configuration of a listener that speaks the protocols given, best first. It returns ErrNoCertificate when
// there is none.
func (s *Source) Server(protocols ...string) (*tls.Config, error) {
	if s.o.Empty() {
		return nil, ErrNoCertificate
	}
	base := s.base()
	base.NextProtos = protocols
	if s.o.verifiesClients() {
		base.ClientAuth = tls.RequireAndVerifyClientCert
	}
	made := made{base: base}
	outer := base.Clone() // keeps the keys of the sessions, whatever material each was made with
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := made.of(s.fresh())
		if !s.o.CheckSAN {
			return c, nil
		}
		c = c.Clone()
		verify, ctx, remote := c.VerifyConnection, hello.Context(), hello.Conn.RemoteAddr().String()
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if err := verify(cs); err != nil || len(cs.PeerCertificates) == 0 {
				return err
			}
			return checkSAN(ctx, cs.PeerCertificates[0], remote)
		}
		return c, nil
	}
	return outer, nil
}

// made keeps the configuration that was made of the newest material.
type made struct {
	base *tls.Config

	mu   sync.Mutex
	from *material
	last *tls.Config
}

func (x *made) of(m *material) *tls.Config {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.from != m {
		c := x.base.Clone()
		c.Certificates, c.ClientCAs = []tls.Certificate{*m.cert}, m.roots
		x.from, x.last = m, c
	}
	return x.last
}

// Client returns the configuration of connections that this member opens from now on: whoever opens more later asks again, or
// uses Dialing. ServerName is left to whoever uses it.
func (s *Source) Client() *tls.Config {
	c := s.base()
	c.RootCAs = s.fresh().roots
	c.InsecureSkipVerify = s.o.SelfSigned
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if c := s.fresh().client(); c != nil {
			return c, nil
		}
		return &tls.Certificate{}, nil // the server decides whether it wants one
	}
	return c
}

// Dialing returns a function that opens TLS connections to host:port, each with the newest material; d makes the connections
// below. It fits http.Transport's DialTLSContext. The caller closes what it opens.
func (s *Source) Dialing(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		with := tls.Dialer{NetDialer: d, Config: s.Client()}
		with.Config.ServerName = cmp.Or(s.o.ServerName, host)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		return with.DialContext(ctx, network, address)
	}
}

// base is what both sides have in common.
func (s *Source) base() *tls.Config {
	c := &tls.Config{MinVersion: s.o.MinVersion, MaxVersion: s.o.MaxVersion, CipherSuites: s.o.CipherSuites, Time: s.o.Clock.Now}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	c.VerifyConnection = s.verify
	return c
}

// fresh returns the newest material, after a look at the files if the last one is long enough ago.
func (s *Source) fresh() *material {
	now := s.o.Clock.Now()
	if now.Sub(*s.checked.Load()) >= checkEvery && s.reading.TryLock() {
		defer s.reading.Unlock()
		s.checked.Store(&now)
		s.reload()
	}
	return s.current.Load()
}

// reload reads the files if they have changed, and again each time until all of them can be used.
//
// REQUIRES: s.reading is held.
func (s *Source) reload() {
	// The stamps are older than what is read: a change meanwhile is seen next time.
	now := stamp(s.o.files())
	if same(now, s.stamps) {
		return
	}
	m, err := s.o.read(*s.current.Load())
	s.current.Store(m)
	if err != nil {
		if !same(now, s.refused) {
			s.o.Logger.Error("changed TLS files cannot be used; those from before stay", slog.String("side", s.o.Side), slog.Any("error", err))
			s.refused = now
		}
		s.stamps = nil // of those that were taken before some may be put back
		return
	}
	s.stamps, s.refused = now, nil
	attrs := []any{slog.String("side", s.o.Side)}
	if m.cert != nil && m.cert.Leaf != nil {
		attrs = append(attrs, slog.Time("not-after", m.cert.Leaf.NotAfter))
	}
	s.o.Logger.Info("read changed TLS files", attrs...)
}

// stamp looks at files, with nil for one that is not to be seen.
func stamp(names []string) []os.FileInfo {
	out := make([]os.FileInfo, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			out[i] = info
		}
	}
	return out
}

// same tells whether two looks at the same names saw the same files.
func same(a, b []os.FileInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}
