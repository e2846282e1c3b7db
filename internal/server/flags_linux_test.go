package server

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// proof shows that the setting of a row of the table does what it says: on the lab's member, on another one, or on what is made of
// the configuration. name is the flag's, without dashes.
type proof func(t *testing.T, l *flagLab, name string)

// proofs are carried out while the lab's member runs, endProofs when it has ended.
var (
	proofs    = merged(memberProofs, tickProofs, clusterProofs, discoveryProofs, tlsProofs, httpProofs, logProofs)
	endProofs = merged(tracingProofs, auditProofs, registryProofs, map[string]proof{"force-new-cluster": provesForceNewCluster, "max-learners": provesMaxLearners})
)

func merged(parts ...map[string]proof) map[string]proof {
	all := map[string]proof{}
	for _, p := range parts {
		maps.Copy(all, p)
	}
	return all
}

// TestEveryFlagDoesWhatItSays carries out the proof of each row of the table that has an effect. That the others are told to have none is
// shown for each of them in package config.
func TestEveryFlagDoesWhatItSays(t *testing.T) {
	t.Parallel()
	l := newFlagLab(t)
	rows := map[string]bool{}
	var late []string
	for _, f := range config.Flags() {
		label := f.Name
		if label == "" {
			label = f.Key
		}
		rows[label] = true
		p, now := proofs[label]
		_, end := endProofs[label]
		switch {
		case now == end && f.Status == config.Built:
			t.Errorf("%s needs one proof that it does what it says", label)
		case (now || end) && f.Status == config.Accepted:
			t.Errorf("%s has a proof, but no effect", label)
		case end:
			late = append(late, label)
		case now:
			_, alone := tickProofs[label]
			t.Run(label, func(t *testing.T) {
				if alone {
					t.Parallel()
				}
				p(t, l, label)
			})
		}
	}
	l.end(t)
	for _, label := range late {
		t.Run(label, func(t *testing.T) { endProofs[label](t, l, label) })
	}
	for label := range merged(proofs, endProofs) {
		if !rows[label] {
			t.Errorf("there is a proof of %s, which is not in the table", label)
		}
	}
}

// flagPatience bounds the wait for what a flag has to bring about.
const flagPatience = 2 * time.Minute

// flagLab is a member whose settings differ from the defaults, on unix sockets in dir.
type flagLab struct {
	dir       string
	args      []string // its command line
	cfg       config.Config
	member    *member.Member
	client    *clientv3.Client
	collector *collector
	stop      func() error
	guarded   *guarded
	pings     *registryPings
}

func (l *flagLab) path(name string) string { return filepath.Join(l.dir, name) }

func newFlagLab(t *testing.T) *flagLab {
	t.Helper()
	dir, err := os.MkdirTemp("", "flags") // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &flagLab{dir: dir, collector: collect(t), guarded: guard(t), pings: startRegistryPings(t)}
	l.args = []string{
		"--name=m1", "--data-dir=" + l.path("data"), "--wal-dir=" + l.path("wal"),
		"--listen-client-urls=unix://" + l.path("client"), "--advertise-client-urls=http://client.example:1",
		"--listen-client-http-urls=unix://" + l.path("http"), "--listen-metrics-urls=unix://" + l.path("metrics"),
		"--listen-peer-urls=unix://" + l.path("peer"), "--initial-advertise-peer-urls=http://127.0.0.1:7",
		"--initial-cluster=m1=http://127.0.0.1:7", "--initial-cluster-token=token",
		"--max-txn-ops=3", "--max-request-bytes=100000", "--max-concurrent-streams=77", "--quota-backend-bytes=123456789",
		"--feature-gates=CompactHashCheck=true", "--watch-progress-notify-interval=100ms",
		"--enable-pprof", "--metrics=extensive", "--cors=http://page.example:80", "--host-whitelist=good.example",
		"--warning-unary-request-duration=1ns", "--warning-apply-duration=1ns",
		"--log-outputs=" + l.path("a.log") + "," + l.path("b.log"), "--log-format=console",
		"--audit-log-file=" + l.path("audit"), "--audit-log-reads=false",
		"--enable-distributed-tracing", "--distributed-tracing-address=" + l.collector.address,
		"--distributed-tracing-service-name=service", "--distributed-tracing-instance-id=instance",
		"--distributed-tracing-sampling-rate=1000000",
	}
	l.cfg = parsed(t, l.args...)
	l.member, l.stop = l.run(t, l.cfg)
	l.client = l.dial(t)
	if _, err := l.client.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:9"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	return l
}

// parsed is the configuration of a command line.
func parsed(t *testing.T, args ...string) config.Config {
	t.Helper()
	cfg, err := config.Parse("ashlar", args, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// run runs a member with its log as cfg has it, until stop is called or the test ends.
func (l *flagLab) run(t *testing.T, cfg config.Config) (*member.Member, func() error) {
	t.Helper()
	return l.runIn(t, cfg, Host{}, true)
}

// runIn is run with a host. It waits until clients are served if they are to be, and else until the member has started.
func (l *flagLab) runIn(t *testing.T, cfg config.Config, h Host, served bool) (*member.Member, func() error) {
	t.Helper()
	log, files, err := logging.Open(LogOptions(&cfg, os.Stdout, os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, ended := make(chan *member.Member, 1), make(chan error, 1)
	if tell := func(m *member.Member) { up <- m }; served {
		h.Serving = tell
	} else {
		h.Started = tell
	}
	go func() { ended <- RunIn(ctx, cfg, log, h) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, files.Close())
	})
	t.Cleanup(func() { _ = stop() })
	select {
	case m := <-up:
		return m, stop
	case err := <-ended:
		ended <- err
		t.Fatalf("the member ended: %v", err)
		return nil, nil
	}
}

// dial returns a client of the lab's member.
func (l *flagLab) dial(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + l.path("client")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (l *flagLab) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(l.client.Close(), l.stop()); err != nil {
		t.Fatal(err)
	}
}

// get asks by HTTP at one of the lab's sockets.
func (l *flagLab) get(t *testing.T, socket, method, path string, change func(*http.Request)) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://good.example"+path, strings.NewReader(`{"key":"YQ=="}`))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	return (&http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.path(socket))
	}}).RoundTrip(req)
}

// logged wants the log at path to hold every one of these texts in one line.
func logged(t *testing.T, path string, want ...string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(line, w) }) {
			return
		}
	}
	t.Errorf("no line of %s holds %q:\n%.3000s", filepath.Base(path), want, text)
}
