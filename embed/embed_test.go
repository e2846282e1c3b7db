package embed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/ashlar-kv/ashlar/embed"
)

// patience bounds every wait. It is no expectation.
const patience = 3 * time.Minute

// onFreePorts is a member alone on listeners of the test's.
func onFreePorts(t *testing.T, name string) *embed.Config {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.SlogLogger, cfg.UnsafeNoFsync = name, filepath.Join(t.TempDir(), name), slog.New(slog.DiscardHandler), true
	cfg.ClientListeners, cfg.ListenClientUrls = listen()
	cfg.PeerListeners, cfg.ListenPeerUrls = listen()
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
	return cfg
}

// start starts a member, which is closed with the test.
func start(t *testing.T, cfg *embed.Config) *embed.Etcd {
	t.Helper()
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// await waits for a channel to be closed, or to give something.
func await[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Fatalf("%s does not come", what)
	}
	return v
}

// noError wants the member to have ended well.
func noError(t *testing.T, e *embed.Etcd) {
	t.Helper()
	if err := await(t, "the end", e.Err()); err != nil {
		t.Error(err)
	}
}

func client(t *testing.T, e *embed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := e.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // its member may have ended
	return c
}

func put(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for { // an election, which a busy machine has at any time, ends it without an answer
		_, err := c.Put(ctx, key, value)
		if err == nil {
			return
		}
		if !passes(err) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// passes says whether an error is one that a leader which is not there for a while gives.
func passes(err error) bool {
	var told rpctypes.EtcdError
	return errors.As(err, &told) && told.Code() == codes.Unavailable
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := c.Get(ctx, key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, got, err)
	}
	return string(got.Kvs[0].Value)
}

func TestAMemberIsStartedServesAndIsStartedAgain(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	cfg.ClientListeners, cfg.PeerListeners = nil, nil // its own, on any port
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	for i := range 2 {
		e := start(t, cfg)
		local := client(t, e) // before it serves
		if i == 1 {
			if got := get(t, local, "k"); got != "v" {
				t.Errorf("after a restart: %q", got)
			}
		}
		put(t, local, "k", "v")
		await(t, "readiness", e.Server.ReadyNotify())
		remote, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Clients[0].Addr().String()}, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, remote, "k"); got != "v" {
			t.Errorf("by the network: %q", got)
		}
		if err := remote.Close(); err != nil {
			t.Error(err)
		}
		applied := e.Server.AppliedIndex() // more may be committed at any time
		if e.Server.Leader() != e.Server.MemberID() || e.Server.IsLearner() || applied == 0 || e.Server.Term() == 0 ||
			e.Server.CommittedIndex() < applied || e.Server.Cluster().ID() == 0 {
			t.Error("it does not lead itself")
		}
		if urls := e.Server.Cluster().ClientURLs(); !slices.Equal(urls, []string{cfg.AdvertiseClientUrls[0].String()}) {
			t.Errorf("clients are told %v", urls)
		}
		if m := e.Server.Cluster().Members(); len(m) != 1 || m[0].Name != "m1" || m[0].ID != e.Server.MemberID() ||
			!slices.Equal(m[0].PeerURLs, e.Server.Cluster().PeerURLs()) {
			t.Errorf("the members are %v", m)
		}
		e.Close()
		e.Close()
		e.Server.Stop()
		await(t, "the stop", e.Server.StopNotify())
		noError(t, e)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := local.Put(ctx, "k", "late"); err == nil {
			t.Error("a member that has ended took a write")
		}
		cancel()
	}
}

// TestThreeMembersInOneProcess found a cluster, lose one, and hear of what was removed.
func TestThreeMembersInOneProcess(t *testing.T) {
	t.Parallel()
	var configs []*embed.Config
	var pairs []string
	for i := range 3 {
		cfg := onFreePorts(t, fmt.Sprint("m", i+1))
		configs = append(configs, cfg)
		pairs = append(pairs, cfg.InitialClusterFromName(cfg.Name))
	}
	kept := slices.Concat(configs[0].ClientListeners, configs[0].PeerListeners) // so that nobody takes its ports while it is away
	for _, l := range kept {
		t.Cleanup(func() { _ = l.Close() }) // the test is over
	}
	configs[0].ClientListeners, configs[0].PeerListeners = []net.Listener{second(t, kept[0])}, []net.Listener{second(t, kept[1])}
	members := make([]*embed.Etcd, 3)
	for i, cfg := range configs {
		cfg.InitialCluster, cfg.InitialClusterToken = strings.Join(pairs, ","), t.Name()
		members[i] = start(t, cfg)
	}
	for _, e := range members {
		await(t, "readiness", e.Server.ReadyNotify())
	}
	put(t, client(t, members[0]), "a", "1")
	for _, e := range members {
		if got := get(t, client(t, e), "a"); got != "1" {
			t.Errorf("%v has %q", e.Server.MemberID(), got)
		}
	}
	if ids := members[0].Server.Cluster().ID(); ids != members[1].Server.Cluster().ID() || len(members[2].Server.Cluster().Members()) != 3 {
		t.Error("they are no cluster")
	}
	members[0].Close()
	put(t, client(t, members[1]), "a", "2")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	configs[0].ClientListeners, configs[0].PeerListeners = []net.Listener{second(t, kept[0])}, []net.Listener{second(t, kept[1])}
	members[0] = start(t, configs[0])
	await(t, "readiness", members[0].Server.ReadyNotify())
	if got := get(t, client(t, members[0]), "a"); got != "2" {
		t.Errorf("after its return: %q", got)
	}
	remove(ctx, t, client(t, members[1]), members[2].Server.MemberID())
	if err := await(t, "the end of the member that was removed", members[2].Err()); !errors.Is(err, embed.ErrRemoved) {
		t.Errorf("it ended with %v", err)
	}
	await(t, "its stop", members[2].Server.StopNotify())
	for _, e := range members[:2] {
		e.Close()
		noError(t, e)
	}
	again := onFreePorts(t, "m3")
	again.Dir, again.InitialCluster = configs[2].Dir, configs[2].InitialCluster
	if e, err := embed.StartEtcd(again); !errors.Is(err, embed.ErrRemoved) || e != nil {
		t.Errorf("the removed member, started again: %v", err)
	}
}

// second returns another listener on the socket of a first one.
func second(t *testing.T, l net.Listener) net.Listener {
	t.Helper()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// remove removes a member once that is allowed: those that stay must have been connected for a while.
func remove(ctx context.Context, t *testing.T, c *clientv3.Client, id embed.ID) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := c.MemberRemove(ctx, uint64(id))
		if err == nil || errors.Is(err, rpctypes.ErrMemberNotFound) { // by an earlier attempt
			return
		}
		if !passes(err) {
			t.Fatal(err)
		}
		<-ticker.C
	}
}

// TestClustersInOneProcessShareNothing runs two of them, each with its own metrics and log.
func TestClustersInOneProcessShareNothing(t *testing.T) {
	t.Parallel()
	var logs [2]lockedBuffer
	var members [2]*embed.Etcd
	for i := range members {
		cfg := onFreePorts(t, fmt.Sprint("alone", i))
		cfg.SlogLogger = slog.New(slog.NewJSONHandler(&logs[i], nil))
		cfg.InitialClusterToken = cfg.Name
		members[i] = start(t, cfg)
	}
	for i, e := range members {
		put(t, client(t, e), "k", fmt.Sprint(i))
	}
	put(t, client(t, members[1]), "k", "1")
	for i, e := range members {
		await(t, "readiness", e.Server.ReadyNotify())
		if got := get(t, client(t, e), "k"); got != fmt.Sprint(i) {
			t.Errorf("cluster %d has %q", i, got)
		}
		want := fmt.Sprintf("\netcd_mvcc_put_total %d\n", i+1)
		if text := fetch(t, "http://"+e.Clients[0].Addr().String()+"/metrics"); !strings.Contains(text, want) {
			t.Errorf("the metrics of cluster %d do not hold %q", i, want)
		}
		e.Close()
		own, other := fmt.Sprint("alone", i), fmt.Sprint("alone", 1-i)
		if text := logs[i].String(); !strings.Contains(text, own) || strings.Contains(text, other) {
			t.Errorf("log %d holds the wrong lines", i)
		}
	}
}

// TestAMemberWithoutAddressesServesTheProcessAlone listens nowhere.
func TestAMemberWithoutAddressesServesTheProcessAlone(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	for _, l := range slices.Concat(cfg.ClientListeners, cfg.PeerListeners) {
		_ = l.Close() // only its port was wanted
	}
	cfg.ClientListeners, cfg.PeerListeners, cfg.ListenClientUrls, cfg.ListenPeerUrls = nil, nil, nil, nil
	e := start(t, cfg)
	put(t, client(t, e), "k", "v")
	if len(e.Clients) != 0 || len(e.Peers) != 0 {
		t.Errorf("it listens on %v and %v", e.Clients, e.Peers)
	}
	e.Close()
	noError(t, e)
}

func TestAClientInsideTheProcessLogsInAsAnyOther(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	cfg.BcryptCost = 4
	e := start(t, cfg)
	c := client(t, e)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, step := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Put(ctx, "k", "v"); err == nil || !strings.Contains(err.Error(), "user name is empty") {
		t.Errorf("without a user: %v", err)
	}
	as := e.ClientConfig()
	as.Username, as.Password = "root", "secret"
	root, err := clientv3.New(as)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	put(t, root, "k", "v")
}

func TestAStartThatFailsLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	running := start(t, onFreePorts(t, "m1"))
	taken := running.Config()
	for name, c := range map[string]struct {
		change func(*embed.Config)
		want   string
	}{
		"a setting":            {func(c *embed.Config) { c.ElectionMs = 1 }, "--election-timeout"},
		"a cluster without it": {func(c *embed.Config) { c.InitialCluster = "other=http://127.0.0.1:1" }, "couldn't find local name"},
		"a directory in use":   {func(c *embed.Config) { c.Dir = taken.Dir }, taken.Dir},
		"a listener too many":  {func(c *embed.Config) { c.ListenPeerUrls = nil }, "PeerListeners holds 1 listeners for 0 addresses"},
		"a log that cannot be": {func(c *embed.Config) { c.SlogLogger, c.LogOutputs = nil, []string{"/no/such/dir/log"} }, "/no/such/dir/log"},
		"an address in use":    {func(c *embed.Config) { c.ClientListeners, c.ListenClientUrls = nil, taken.ListenClientUrls }, "address already in use"},
		"a cluster that nobody is in": {func(c *embed.Config) {
			c.InitialCluster = c.InitialClusterFromName(c.Name) + ",other=http://127.0.0.1:1"
			c.ClusterState = embed.ClusterStateFlagExisting
		}, "cannot fetch cluster info"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := onFreePorts(t, "m2")
			c.change(cfg)
			e, err := embed.StartEtcd(cfg)
			if err == nil || e != nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "embed: ") {
				t.Errorf("got %v", err)
			}
			for _, l := range slices.Concat(cfg.ClientListeners, cfg.PeerListeners) {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v was left open", l.Addr())
				}
			}
		})
	}
}

func TestAStartIsBrokenOff(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	silent, urls := listen() // takes connections and never answers
	t.Cleanup(func() { _ = silent[0].Close() })
	go func() {
		if conn, err := silent[0].Accept(); err == nil {
			cancel()
			_ = conn.Close()
		}
	}()
	cfg := onFreePorts(t, "m2")
	cfg.InitialCluster, cfg.ClusterState = cfg.InitialClusterFromName("m2")+",m1="+urls[0].String(), embed.ClusterStateFlagExisting
	if e, err := embed.Start(ctx, cfg); err == nil || e != nil {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(cfg.Dir)); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}

// TestAFailureIsToldAndEndsTheMember closes a listener under it.
func TestAFailureIsToldAndEndsTheMember(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	e := start(t, cfg)
	await(t, "readiness", e.Server.ReadyNotify())
	if err := cfg.ClientListeners[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the error", e.Err()); err == nil || !strings.Contains(err.Error(), "closed network connection") {
		t.Errorf("got %v", err)
	}
	await(t, "the stop", e.Server.StopNotify())
	noError(t, e) // no second one
	e.Close()
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
