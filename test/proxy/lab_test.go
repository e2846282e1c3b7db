package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/proxy"
	"github.com/ashlar-kv/ashlar/internal/server"
	"github.com/ashlar-kv/ashlar/test/process"
)

// patience is how long a test waits for what must happen at last.
const patience = 240 * time.Second

// upstream is a member that can be stopped and started again.
type upstream struct {
	address string
	cfg     config.Config
	stop    context.CancelFunc
	ended   chan error
}

// runMember starts a member; set changes its configuration.
func runMember(t *testing.T, set func(c *config.Config)) *upstream {
	t.Helper()
	u := newMember(t, set)
	u.start(t)
	return u
}

// runMembers starts a cluster.
func runMembers(t *testing.T, n int) []*upstream {
	t.Helper()
	var peers, pairs []string
	for i := range n {
		peers = append(peers, "http://"+process.FreeAddress(t))
		pairs = append(pairs, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	var all []*upstream
	var waits []func()
	for i := range n {
		u := newMember(t, func(c *config.Config) {
			c.Name, c.InitialCluster = fmt.Sprintf("m%d", i), strings.Join(pairs, ",")
			c.ListenPeerURLs = urls(t, peers[i])
			c.AdvertisePeerURLs = c.ListenPeerURLs
		})
		all, waits = append(all, u), append(waits, u.launch(t))
	}
	for _, wait := range waits {
		wait()
	}
	return all
}

// newMember configures a member, and has it stopped when the test ends.
func newMember(t *testing.T, set func(c *config.Config)) *upstream {
	t.Helper()
	u := &upstream{address: process.FreeAddress(t)}
	u.cfg = config.Default("ashlar")
	u.cfg.BcryptCost = 4 // the least
	u.cfg.DataDir = filepath.Join(t.TempDir(), "data")
	u.cfg.ListenClientURLs = urls(t, "http://"+u.address)
	u.cfg.AdvertiseClientURLs = u.cfg.ListenClientURLs
	u.cfg.ListenPeerURLs = urls(t, "http://127.0.0.1:0")
	if set != nil {
		set(&u.cfg)
	}
	if err := u.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.end(t) })
	return u
}

func urls(t *testing.T, list string) config.URLs {
	t.Helper()
	u, err := config.ParseURLs(list)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *upstream) start(t *testing.T) {
	t.Helper()
	u.launch(t)()
}

// launch starts the member and returns what waits until it serves.
func (u *upstream) launch(t *testing.T) (wait func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	u.stop, u.ended = stop, make(chan error, 1)
	serving := make(chan struct{})
	once := sync.OnceFunc(func() { close(serving) })
	ended := u.ended
	go func() {
		ended <- server.RunIn(ctx, u.cfg, slog.New(slog.DiscardHandler), server.Host{Serving: func(*member.Member) { once() }})
	}()
	return func() {
		t.Helper()
		select {
		case <-serving:
		case err := <-ended:
			ended <- err // for end
			t.Fatalf("the member ended: %v", err)
		}
	}
}

// end stops the member. It may be called again.
func (u *upstream) end(t *testing.T) {
	t.Helper()
	if u.ended == nil {
		return
	}
	u.stop()
	if err := <-u.ended; err != nil {
		t.Errorf("the member's stop: %v", err)
	}
	u.ended = nil
}

// running is a proxy.
type running struct {
	addresses []string
	log       *output
	stop      func()
}

// output is what a proxy logs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// runProxy starts a gRPC proxy in front of an address, with more flags.
func runProxy(t *testing.T, address string, flags ...string) *running {
	t.Helper()
	return runCommand(t, append([]string{"grpc-proxy", "start", "--listen-addr=127.0.0.1:0", "--endpoints=" + address}, flags...)...)
}

func runCommand(t *testing.T, args ...string) *running {
	t.Helper()
	return runProcess(t, proxy.Process{Args: args})
}

func runProcess(t *testing.T, p proxy.Process) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{log: &output{}}
	ready := make(chan []string, 1)
	status := make(chan int, 1)
	p.Program, p.Stdout, p.Stderr = "etcd", io.Discard, r.log
	p.Ready = func(addresses []string) { ready <- addresses }
	go func() {
		status <- proxy.Run(ctx, p)
	}()
	r.stop = sync.OnceFunc(func() {
		stop()
		if code := <-status; code != 0 {
			t.Errorf("the proxy's stop has status %d: %s", code, r.log)
		}
	})
	select {
	case r.addresses = <-ready:
	case code := <-status:
		t.Fatalf("the proxy ended with status %d: %s", code, r.log)
	}
	t.Cleanup(r.stop)
	return r
}

// client returns a client of an address; set changes its configuration.
func client(t *testing.T, address string, set ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: []string{address}, DialTimeout: patience, Logger: zap.NewNop()}
	for _, f := range set {
		f(&cfg)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *running) client(t *testing.T, set ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	return client(t, r.addresses[0], set...)
}

func as(user string) func(*clientv3.Config) {
	return func(c *clientv3.Config) { c.Username, c.Password = user, user }
}

// soon is a context for what must come at last.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-pause.C
	}
}

// get reads a page.
func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(soon(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(text)
}

// metric returns the value of a metric as it is written, "" when it is not there.
func metric(t *testing.T, url, name string) string {
	t.Helper()
	_, text := get(t, http.DefaultClient, url)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
