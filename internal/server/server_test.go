package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// configAt is a valid configuration of one member below dir that serves at address.
func configAt(t *testing.T, dir, address string) config.Config {
	t.Helper()
	cfg := config.Default("ashlar")
	cfg.DataDir = filepath.Join(dir, "data")
	urls, err := config.ParseURLs("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ListenClientURLs = urls
	if cfg.ListenPeerURLs, err = config.ParseURLs("http://127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// addresses is a log handler that passes on at which address the server is ready.
type addresses struct {
	slog.Handler
	found chan string
}

func (a addresses) Enabled(context.Context, slog.Level) bool { return true }

func (a addresses) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "ready to serve client requests" {
		r.Attrs(func(attr slog.Attr) bool {
			if attr.Key == "address" {
				a.found <- attr.Value.String()
			}
			return true
		})
	}
	return nil
}

func (a addresses) WithAttrs([]slog.Attr) slog.Handler { return a }
func (a addresses) WithGroup(string) slog.Handler      { return a }

// running is a server in a goroutine of its own.
type running struct {
	address string
	stop    context.CancelFunc
	ended   chan error
}

func run(t *testing.T, cfg config.Config) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{stop: stop, ended: make(chan error, 1)}
	a := addresses{slog.DiscardHandler, make(chan string, 1)}
	go func() { r.ended <- Run(ctx, cfg, slog.New(a)) }()
	t.Cleanup(stop)
	select {
	case r.address = <-a.found:
	case err := <-r.ended:
		t.Fatalf("the server ended: %v", err)
	}
	return r
}

// end stops the server and wants no error.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		t.Errorf("a graceful stop: %v", err)
	}
}

func (r *running) client(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{r.address}, DialTimeout: 2 * time.Minute, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fetch asks the server by HTTP.
func (r *running) fetch(t *testing.T, path string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, res.Status, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %q: %v", path, body, err)
	}
}

func TestAServerAnswersClientsOnOnePortAndKeepsWhatTheyWrote(t *testing.T) {
	t.Parallel()
	cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
	r := run(t, cfg)
	c := r.client(t)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	var versions struct {
		Server string `json:"etcdserver"`
	}
	if r.fetch(t, "/version", &versions); versions.Server != version.Etcd {
		t.Errorf("/version says %q, want %q", versions.Server, version.Etcd)
	}
	for _, path := range []string{"/health", "/health?serializable=true"} {
		var health struct {
			Health string `json:"health"`
		}
		if r.fetch(t, path, &health); health.Health != "true" {
			t.Errorf("%s says %q", path, health.Health)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r.end(t)

	r = run(t, cfg)
	c = r.client(t)
	got, err := c.Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r.end(t)
}

func TestASecondServerOnTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
	r := run(t, cfg)
	err := Run(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if !errors.Is(err, storage.ErrLocked) || !strings.Contains(err.Error(), cfg.DataDir) {
		t.Errorf("got %v, want an error that names %s", err, cfg.DataDir)
	}
	c := r.client(t)
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Errorf("the first one after that: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r.end(t)
}

func TestWhatCannotBeServedTouchesNoFile(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // the test is over
	cases := map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"a port in use": {func(c *config.Config) {
			c.ListenClientURLs = append(c.ListenClientURLs, url.URL{Scheme: "http", Host: taken.Addr().String()})
		}, taken.Addr().String()},
		"a port for members in use": {func(c *config.Config) {
			c.ListenPeerURLs = append(c.ListenPeerURLs, url.URL{Scheme: "http", Host: taken.Addr().String()})
		}, taken.Addr().String()},
		"a cluster to join that is not there": {func(c *config.Config) {
			c.InitialCluster, c.InitialClusterState = "default=http://localhost:2380,b=http://127.0.0.1:1", "existing"
		}, "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"},
		"a cluster that cannot be read": {func(c *config.Config) { c.InitialCluster = "default" }, "default"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := configAt(t, dir, "127.0.0.1:0")
			c.change(&cfg)
			err := Run(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("files %v, %v; want none", files, err)
			}
		})
	}
}

func TestAURLSaysWhereToListen(t *testing.T) {
	t.Parallel()
	for from, want := range map[string][2]string{
		"http://127.0.0.1:2379":   {"tcp", "127.0.0.1:2379"},
		"http://[::1]:2379":       {"tcp", "[::1]:2379"},
		"unix://member.sock":      {"unix", "member.sock"},
		"unix:///run/member.sock": {"unix", "/run/member.sock"},
	} {
		u, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		if network, address := target(u); network != want[0] || address != want[1] {
			t.Errorf("%s: %s %s", from, network, address)
		}
	}
}
