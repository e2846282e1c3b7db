package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/net/http2"

	"github.com/ashlar-kv/ashlar/internal/config"
)

const discoveryKeys = "discovery-config.client."

// discoveryProofs: the lab's member is the registry, or one that demands certificates and passwords, or nobody answers.
var discoveryProofs = map[string]proof{
	"discovery-token":     provesRegistry,
	"discovery-endpoints": provesRegistry,
	"discovery-srv":       provesRecords,
	"discovery-srv-name":  provesRecords,
	"discovery-fallback": func(t *testing.T, _ *flagLab, name string) {
		_, err := config.Parse("ashlar", []string{"--" + name + "=proxy"}, nil)
		if err == nil || !strings.Contains(err.Error(), "v2 proxy is deprecated") {
			t.Errorf("got %v", err)
		}
	},
	"discovery-dial-timeout":             seesPatience("--discovery-user=u", "--discovery-password=p"),
	"discovery-request-timeout":          seesPatience(),
	"discovery-insecure-transport":       seesTransport,
	"discovery-insecure-skip-tls-verify": keepsOut("deadline exceeded", "cacert", "another", "true", "false"),
	"discovery-cacert":                   keepsOut("deadline exceeded", "", "", "ca", "another"),
	"discovery-cert":                     keepsOut("private key does not match public key", "", "", "own", "stranger"),
	"discovery-key":                      keepsOut("private key does not match public key", "", "", "own", "stranger"),
	"discovery-user":                     keepsOut("authentication failed, invalid user ID or password", "", "", "m", "n"),
	"discovery-password":                 keepsOut("authentication failed, invalid user ID or password", "", "", "secret", "x"),
	discoveryKeys + "auth.token":         seesLogin,
	discoveryKeys + "secure.server-name": seesServerName,
	discoveryKeys + "max-request-bytes":  seesBytesMax("trying to send message larger than max"),
	discoveryKeys + "max-recv-bytes":     seesBytesMax("received message larger than max"),
}

// keepsOut has a member come into the guarded registry with one value of the setting, and stay out with another one. Another setting
// has a value of its own in both cases, unless it is "".
func keepsOut(want, other, otherValue, good, bad string) proof {
	return func(t *testing.T, l *flagLab, name string) {
		g, setting := l.guarded, strings.TrimPrefix(name, "discovery-")
		value := func(of, v string) string {
			files := map[string]map[string]string{
				"cacert": {"ca": g.ca.File, "another": g.another.File}, "cert": {"own": g.own.Cert, "stranger": g.stranger.Cert},
				"key": {"own": g.own.Key, "stranger": g.stranger.Key}}
			if f, ok := files[of][v]; ok {
				return f
			}
			return v
		}
		settings := g.settings()
		if other != "" {
			settings[other] = value(other, otherValue)
		}
		settings[setting] = value(setting, good)
		if found, err := g.join(t, t.Context(), settings, "60s"); err != nil || found != "x=http://127.0.0.1:8" {
			t.Errorf("with %s it found %q, %v", good, found, err)
		}
		settings[setting] = value(setting, bad)
		timeout := "60s"
		if want == "deadline exceeded" {
			timeout = "500ms"
		}
		if found, err := g.join(t, t.Context(), settings, timeout); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s it found %q, %v", bad, found, err)
		}
	}
}

// seeker is a member that looks for its cluster, until it is stopped.
type seeker struct {
	told  chan string // what it warns of
	ended chan error
	found string
	stop  context.CancelFunc
}

// seek begins to look with these flags.
func seek(t *testing.T, flags ...string) *seeker {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &seeker{told: make(chan string, 100), ended: make(chan error, 1), stop: stop}
	cfg := parsed(t, append([]string{"--name=x", "--data-dir=" + t.TempDir(), "--initial-advertise-peer-urls=http://127.0.0.1:8"}, flags...)...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := discover(ctx, &cfg, net.DefaultResolver, slog.New(warnings{slog.DiscardHandler, s.told}))
		s.found = cfg.InitialCluster
		s.ended <- err
	}()
	t.Cleanup(func() { stop(); <-done })
	return s
}

// hears waits until it warns of something or ends with it, and stops it.
func (s *seeker) hears(t *testing.T, want string) {
	t.Helper()
	defer s.stop()
	for {
		select {
		case text := <-s.told:
			if strings.Contains(text, want) {
				return
			}
		case err := <-s.ended:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it ended with %v in place of %q", err, want)
			}
			return
		}
	}
}

// finds wants it to find itself.
func (s *seeker) finds(t *testing.T) {
	t.Helper()
	if err := <-s.ended; err != nil || s.found != "x=http://127.0.0.1:8" {
		t.Errorf("it found %q, %v", s.found, err)
	}
}

// ofFile are the flags of a file that has these settings of discovery.
func ofFile(t *testing.T, token, endpoint, client string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	write(t, file, "name: x\ndata-dir: "+t.TempDir()+"\ninitial-advertise-peer-urls: http://127.0.0.1:8\n"+
		"discovery-config: {token: "+token+", client: {endpoints: ['"+endpoint+"'], "+client+"}}\n")
	return []string{"--config-file=" + file}
}

// place makes room in the lab's registry for one member with a token.
func (l *flagLab) place(t *testing.T, token string) {
	t.Helper()
	if _, err := l.client.Put(t.Context(), "/_etcd/registry/"+token+"/_config/size", "1"); err != nil {
		t.Fatal(err)
	}
}

// passage passes connections on to the lab's registry, once it is open.
type passage struct {
	address string
	came    chan struct{} // closed when somebody is there
	open    func()
}

func (l *flagLab) passage(t *testing.T) *passage {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opened, ended := make(chan struct{}), make(chan struct{})
	p := &passage{lis.Addr().String(), make(chan struct{}), sync.OnceFunc(func() { close(opened) })}
	came := sync.OnceFunc(func() { close(p.came) })
	var wg sync.WaitGroup
	pass := func(from net.Conn) {
		defer from.Close()
		select {
		case <-opened:
		case <-ended:
			return
		}
		to, err := net.Dial("unix", l.path("client"))
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		wg.Go(func() { _, _ = io.Copy(from, to); _ = from.Close() })
		_, _ = io.Copy(to, from)
	}
	wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			came()
			wg.Go(func() { pass(c) })
		}
	})
	t.Cleanup(func() { close(ended); _ = lis.Close(); wg.Wait() })
	return p
}

// seesPatience looks in a registry that does not answer: who is to wait for a moment gives up, and who is to wait for an hour, although
// it came earlier, does not, and finds what it looks for when there is an answer.
func seesPatience(flags ...string) proof {
	return func(t *testing.T, l *flagLab, name string) {
		l.place(t, name)
		p := l.passage(t)
		flags = append(slices.Clone(flags), "--discovery-token="+name, "--discovery-endpoints="+p.address)
		patient := seek(t, append(slices.Clone(flags), "--"+name+"=1h")...)
		<-p.came
		seek(t, append(slices.Clone(flags), "--"+name+"=1ms")...).hears(t, "deadline exceeded")
		select {
		case text := <-patient.told:
			t.Errorf("who is to wait for an hour warns of %s", text)
		default:
		}
		p.open()
		patient.finds(t)
	}
}

// seesTransport looks at the first byte that is sent: that of HTTP/2's preface, or of a handshake.
func seesTransport(t *testing.T, _ *flagLab, name string) {
	for value, want := range map[string]byte{"true": http2.ClientPreface[0], "false": 0x16} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := seek(t, "--"+name+"="+value, "--discovery-token=t", "--discovery-endpoints="+lis.Addr().String())
		c, err := lis.Accept()
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil || first[0] != want {
			t.Errorf("--%s=%s: %#x is sent (%v)", name, value, first, err)
		}
		s.stop()
		_, _ = c.Close(), lis.Close()
	}
}

// secured are the settings of a file that the guarded registry asks for.
func (g *guarded) secured(more string) string {
	return "secure: {cacert: " + g.ca.File + ", cert: " + g.own.Cert + ", key: " + g.own.Key + more + "}"
}

// seesLogin shows the token of a login, and another one, in place of a user and a password.
func seesLogin(t *testing.T, l *flagLab, _ string) {
	g := l.guarded
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + g.address}, TLS: g.shows(t, &g.own), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := etcdserverpb.NewAuthClient(c.ActiveConnection()).Authenticate(t.Context(), &etcdserverpb.AuthenticateRequest{Name: "m", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	with := func(token string) *seeker {
		return seek(t, ofFile(t, guardedToken, g.address, g.secured("")+", auth: {token: '"+token+"'}")...)
	}
	with(r.Token).finds(t)
	with("x").hears(t, "invalid auth token")
}

// seesServerName wants the registry's certificate to be of another host than the one that is dialled, which it is, or is not.
func seesServerName(t *testing.T, l *flagLab, _ string) {
	g := l.guarded
	with := func(name, timeout string) *seeker {
		return seek(t, ofFile(t, guardedToken, g.address, g.secured(", server-name: "+name)+", auth: {username: m, password: secret}, dial-timeout: "+timeout)...)
	}
	with("localhost", "60000000000").finds(t)
	with("other.example", "500000000").hears(t, "deadline exceeded")
}

// seesBytesMax bounds messages to next to nothing, and to enough.
func seesBytesMax(want string) proof {
	return func(t *testing.T, l *flagLab, key string) {
		token := strings.ReplaceAll(key, ".", "-")
		l.place(t, token)
		p := l.passage(t)
		p.open()
		with := func(bytes string) *seeker {
			return seek(t, ofFile(t, token, p.address, strings.TrimPrefix(key, discoveryKeys)+": "+bytes)...)
		}
		with("9").hears(t, want)
		with("100000").finds(t)
	}
}
