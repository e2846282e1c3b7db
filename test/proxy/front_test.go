package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// pair is a certificate and its key, in files.
type pair struct{ cert, key string }

// certificates makes an authority, which is the certificate of the first pair, and certificates of it, valid for 127.0.0.1, one
// for each name.
func certificates(t *testing.T, names ...string) (authority string, pairs []pair) {
	t.Helper()
	dir := t.TempDir()
	write := func(file, kind string, der []byte) string {
		file = filepath.Join(dir, file)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"test"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	}
	root := template(1, "authority")
	root.IsCA = true
	rootKey := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	authority = write("ca.crt", "CERTIFICATE", must[[]byte](t)(x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)))
	for i, name := range names {
		key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template(int64(i)+2, name), root, key.Public(), rootKey))
		file := string(rune('a' + i))
		pairs = append(pairs, pair{write(file+".crt", "CERTIFICATE", der),
			write(file+".key", "PRIVATE KEY", must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key)))})
	}
	return authority, pairs
}

func (p pair) tls(t *testing.T, authority string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(authority))) {
		t.Fatal("the authority cannot be read")
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{must[tls.Certificate](t)(tls.LoadX509KeyPair(p.cert, p.key))}, MinVersion: tls.VersionTLS12}
}

func TestTLSOnBothSides(t *testing.T) {
	t.Parallel()
	authority, pairs := certificates(t, "member", "", "client")
	up := runMember(t, func(c *config.Config) {
		c.ListenClientURLs = urls(t, strings.Replace(c.ListenClientURLs.String(), "http", "https", 1))
		c.AdvertiseClientURLs = c.ListenClientURLs
		c.ClientTLS.Cert, c.ClientTLS.Key, c.ClientTLS.CA, c.ClientTLS.ClientCertAuth = pairs[0].cert, pairs[0].key, authority, true
	})
	p := runProxy(t, "https://"+up.address, "--cacert="+authority, "--cert="+pairs[1].cert, "--key="+pairs[1].key,
		"--cert-file="+pairs[0].cert, "--key-file="+pairs[0].key, "--trusted-ca-file="+authority, "--metrics-addr=http://127.0.0.1:0")
	trusted := pairs[2].tls(t, authority)
	c := p.client(t, func(c *clientv3.Config) { c.TLS = trusted })
	ctx := soon(t)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "v"))
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: trusted}}
	for _, page := range []string{"/health", "/proxy/health"} {
		if code, text := get(t, web, "https://"+p.addresses[0]+page); code != http.StatusOK || text != `{"health":"true","reason":""}`+"\n" {
			t.Errorf("%s: %d, %s", page, code, text)
		}
	}
	if code, text := get(t, web, "https://"+p.addresses[0]+"/metrics"); code != http.StatusOK || !strings.Contains(text, "etcd_server_has_leader 1") {
		t.Errorf("the member's metrics: %d, %.200s", code, text)
	}
	if code, text := get(t, http.DefaultClient, "http://"+p.addresses[1]+"/proxy/metrics"); code != http.StatusOK || !strings.Contains(text, "etcd_grpc_proxy_cache_keys_total") {
		t.Errorf("the proxy's metrics: %d, %.200s", code, text)
	}
	stranger := trusted.Clone()
	stranger.Certificates = nil
	if conn, err := tls.Dial("tcp", p.addresses[0], stranger); err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
		if err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("a client without a certificate: %v", err)
		}
	}
}

func TestACertificateIsMade(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address, "--auto-tls", "--data-dir="+t.TempDir())
	c := p.client(t, func(c *clientv3.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} })
	must[*clientv3.PutResponse](t)(c.Put(soon(t), "k", "v"))
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address, "--enable-pprof")
	at := "http://" + p.addresses[0]
	if code, _ := get(t, http.DefaultClient, at+"/debug/pprof/cmdline"); code != http.StatusOK {
		t.Errorf("profiles: %d", code)
	}
	up.end(t)
	for page, want := range map[string]string{"/health": `{"health":"false","reason":"GET ERROR:`, "/proxy/health": `{"health":"false","reason":"PROXY GET ERROR:`} {
		if code, text := get(t, http.DefaultClient, at+page); code != http.StatusServiceUnavailable || !strings.HasPrefix(text, want) {
			t.Errorf("%s: %d, %s", page, code, text)
		}
	}
	if code, _ := get(t, http.DefaultClient, at+"/metrics"); code != http.StatusInternalServerError {
		t.Errorf("metrics of nobody: %d", code)
	}
}

func TestProxiesAreListedAsMembers(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	names := func(c *clientv3.Client) (out []string) {
		for _, m := range must[*clientv3.MemberListResponse](t)(c.MemberList(soon(t))).Members {
			out = append(out, m.ClientURLs...)
		}
		return out
	}
	var all []*running
	for _, at := range []string{"10.0.0.1:1", "10.0.0.2:2"} {
		all = append(all, runProxy(t, up.address, "--resolver-prefix=___proxies", "--resolver-ttl=60", "--advertise-client-url="+at))
	}
	c := all[0].client(t)
	eventually(t, "both are listed", func() bool { return strings.Join(names(c), " ") == "10.0.0.1:1 10.0.0.2:2" })
	kv := must[*clientv3.GetResponse](t)(client(t, up.address).Get(soon(t), "___proxies/10.0.0.1:1")).Kvs[0]
	if want := `{"Op":0,"Addr":"10.0.0.1:1","Metadata":"{\"name\":\"`; !strings.HasPrefix(string(kv.Value), want) || kv.Lease == 0 {
		t.Errorf("it is written down as %s", kv.Value)
	}
	all[1].stop()
	eventually(t, "one that stops is listed no more", func() bool { return strings.Join(names(c), " ") == "10.0.0.1:1" })
	if got := names(runProxy(t, up.address, "--advertise-client-url=").client(t)); len(got) != 1 || got[0] != "http://"+up.address {
		t.Errorf("without an address of its own a proxy names %v", got)
	}
}

func TestTheGatewayServesStockClients(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	g := runCommand(t, "gateway", "start", "--listen-addr=127.0.0.1:0", "--endpoints=127.0.0.1:1,"+up.address)
	c := g.client(t)
	ctx := soon(t)
	w := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
	<-w
	must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "v"))
	if r := <-w; len(r.Events) != 1 {
		t.Errorf("watched %v", r)
	}
}
