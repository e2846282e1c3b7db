package embed_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/embed"
	"github.com/ashlar-kv/ashlar/internal/authority"
)

// secured makes both sides of members demand certificates of an authority.
func secured(cfg *embed.Config, ca *authority.Authority, own authority.Issued) {
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile, cfg.ClientTLSInfo.TrustedCAFile = own.Cert, own.Key, ca.File
	cfg.ClientTLSInfo.ClientCertAuth = true
	cfg.PeerTLSInfo = cfg.ClientTLSInfo
	for _, urls := range [][]url.URL{cfg.ListenClientUrls, cfg.AdvertiseClientUrls, cfg.ListenPeerUrls, cfg.AdvertisePeerUrls} {
		urls[0].Scheme = "https"
	}
}

func TestMembersAndClientsDemandCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, another := authority.New(t, dir, "ca"), authority.New(t, dir, "another")
	own := ca.Issue(t, "own", authority.Loopback(""))
	stranger := another.Issue(t, "stranger", authority.Loopback(""))
	configs := make([]*embed.Config, 3)
	var cluster []string
	for i := range configs {
		configs[i] = onFreePorts(t, fmt.Sprint("m", i))
		secured(configs[i], ca, own)
		cluster = append(cluster, configs[i].InitialClusterFromName(configs[i].Name))
	}
	var members []*embed.Etcd
	for _, cfg := range configs {
		cfg.InitialCluster = strings.Join(cluster, ",")
		members = append(members, start(t, cfg))
	}
	for i, e := range members {
		await(t, "readiness", e.Server.ReadyNotify())
		if got := e.Server.Cluster().PeerURLs(); len(got) != 3 || !strings.HasPrefix(got[0], "https://") {
			t.Errorf("the members are at %v", got)
		}
		address := e.Clients[0].Addr().String()
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + address}, TLS: ca.Client(t, &own), Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		put(t, c, "k", fmt.Sprint(i))
		if got := get(t, client(t, e), "k"); got != fmt.Sprint(i) { // inside of the process there is no TLS
			t.Errorf("%q was written", got)
		}
		_ = c.Close()
		peers := e.Peers[0].Addr().String()
		for name, refused := range map[string]*tls.Config{"no certificate": ca.Client(t, nil), "a stranger's": ca.Client(t, &stranger)} {
			for _, at := range []string{address + "/version", peers + "/members"} {
				if code, err := status(t, refused, at); err == nil {
					t.Errorf("%s: %s answers %d", name, at, code)
				}
			}
		}
		if code, err := status(t, ca.Client(t, &own), address+"/version"); err != nil || code != http.StatusOK {
			t.Errorf("/version: %d, %v", code, err)
		}
		if code, err := status(t, ca.Client(t, &own), peers+"/members"); err != nil || code != http.StatusOK {
			t.Errorf("/members: %d, %v", code, err)
		}
	}
}

// status asks over TLS.
func status(t *testing.T, c *tls.Config, at string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+at, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := (&http.Transport{TLSClientConfig: c, DisableKeepAlives: true}).RoundTrip(q)
	if err != nil {
		return 0, err
	}
	return a.StatusCode, a.Body.Close()
}
