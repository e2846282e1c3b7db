package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/discovery"
)

// joiner is the configuration of a member that finds its cluster in the registry at endpoint.
func joiner(t *testing.T, name, endpoint, token string) config.Config {
	t.Helper()
	return findsItself(t, name, config.Discovery{Token: token, Endpoints: []string{endpoint}, Insecure: true})
}

func findsItself(t *testing.T, name string, d config.Discovery) config.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default("ashlar")
	cfg.Name, cfg.DataDir = name, filepath.Join(t.TempDir(), "data")
	if cfg.ListenPeerURLs, err = config.ParseURLs("http://" + address); err != nil {
		t.Fatal(err)
	}
	cfg.AdvertisePeerURLs = cfg.ListenPeerURLs
	if cfg.ListenClientURLs, err = config.ParseURLs("http://127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	timeouts := cfg.Discovery
	d.DialTimeout, d.RequestTimeout = timeouts.DialTimeout, timeouts.RequestTimeout
	d.KeepAliveTime, d.KeepAliveTimeout = timeouts.KeepAliveTime, timeouts.KeepAliveTimeout
	cfg.Discovery = d
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// registry is a member that serves as discovery service.
func registry(t *testing.T, token, size string) *running {
	t.Helper()
	r := run(t, configAt(t, t.TempDir(), "127.0.0.1:0"))
	c := r.client(t)
	defer c.Close()
	if _, err := c.Put(t.Context(), "/_etcd/registry/"+token+"/_config/size", size); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMembersFindEachOtherInARegistry(t *testing.T) {
	t.Parallel()
	service := registry(t, "t1", "3")
	members := make([]*running, 3)
	configs := make([]config.Config, len(members))
	started := make(chan struct{}, len(members))
	for i, name := range []string{"a", "b", "c"} {
		configs[i] = joiner(t, name, service.address, "t1")
		go func() { // none is ready before all have registered
			defer func() { started <- struct{}{} }()
			members[i] = run(t, configs[i])
		}()
	}
	for range members {
		<-started
	}
	if t.Failed() {
		return
	}
	c := members[0].client(t)
	defer c.Close()
	list, err := c.MemberList(t.Context())
	if err != nil || len(list.Members) != 3 {
		t.Fatalf("the cluster has %v, %v", list, err)
	}
	if _, err := c.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), joiner(t, "d", service.address, "t1"), slog.New(slog.DiscardHandler)); !errors.Is(err, discovery.ErrFullCluster) {
		t.Errorf("one member too many: %v", err)
	}
	// A member that has its data needs no registry any more.
	service.end(t)
	members[2].end(t)
	members[2] = run(t, configs[2])
	again := members[2].client(t)
	defer again.Close()
	got, err := again.Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	for _, m := range members {
		m.end(t)
	}
}

func TestARegistryThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	service := registry(t, "bad", "many")
	c := service.client(t)
	defer c.Close()
	for _, kv := range [][2]string{
		{"twice/_config/size", "2"}, {"twice/members/1", "x=http://127.0.0.1:1"}, {"garbage/_config/size", "2"}, {"garbage/members/1", "nothing"},
		{"zero/_config/size", "0"},
	} {
		if _, err := c.Put(t.Context(), "/_etcd/registry/"+kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	for token, want := range map[string]error{"unknown": discovery.ErrSizeNotFound, "bad": discovery.ErrBadSizeKey, "zero": discovery.ErrBadSizeKey,
		"garbage": discovery.ErrInvalidURL} {
		err := Run(t.Context(), joiner(t, "a", service.address, token), slog.New(slog.DiscardHandler))
		if !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "failed to join discovery cluster (") {
			t.Errorf("token %s: %v, want %v", token, err, want)
		}
	}
	cfg := joiner(t, "a", service.address, "twice")
	if _, err := c.Put(t.Context(), "/_etcd/registry/twice/members/2", "b="+cfg.AdvertisePeerURLs.String()); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, discovery.ErrFullCluster) {
		t.Errorf("a cluster that is full: %v", err)
	}
	service.end(t)
}

// TestWaitingForOthersEndsWithTheMember in order, and without a data directory: the next start waits again.
func TestWaitingForOthersEndsWithTheMember(t *testing.T) {
	t.Parallel()
	service := registry(t, "alone", "2")
	c := service.client(t)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	cfg := joiner(t, "a", service.address, "alone")
	go func() { ended <- Run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	for range c.Watch(t.Context(), "/_etcd/registry/alone/members/", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		break // it has registered
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if cfg.Initialised() {
		t.Error("the next start would wait for nobody")
	}
	service.end(t)
}

// records are DNS by hand; the real one is asked in the tests of package discovery.
type records map[string][]*net.SRV

func (r records) LookupSRV(_ context.Context, service, _, name string) (string, []*net.SRV, error) {
	if found, ok := r[service+"."+name]; ok {
		return "", found, nil
	}
	return "", nil, errors.New("no such host")
}

func (records) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
}

func TestMembersFindEachOtherByDNS(t *testing.T) {
	t.Parallel()
	cfg := findsItself(t, "a", config.Discovery{SRV: "example.test"})
	u := cfg.AdvertisePeerURLs[0]
	port, err := net.LookupPort("tcp", u.Port())
	if err != nil {
		t.Fatal(err)
	}
	own := &net.SRV{Target: "127.0.0.1.", Port: uint16(port)}
	log := slog.New(slog.DiscardHandler)

	found := cfg
	if err := discover(t.Context(), &found, records{"etcd-server.example.test": {own}}, log); err != nil {
		t.Fatal(err)
	}
	r := run(t, found)
	c := r.client(t)
	defer c.Close()
	if list, err := c.MemberList(t.Context()); err != nil || len(list.Members) != 1 || list.Members[0].Name != "a" {
		t.Errorf("got %v, %v", list, err)
	}
	r.end(t)
	again := cfg
	if err := discover(t.Context(), &again, records{}, log); err != nil { // the member knows its cluster
		t.Errorf("a restart: %v", err)
	}

	other := findsItself(t, "b", config.Discovery{SRV: "example.test"})
	want := `discovery failed: error setting up initial cluster: cannot find local etcd member "b" in SRV records`
	if err := discover(t.Context(), &other, records{"etcd-server.example.test": {own}}, log); err == nil || err.Error() != want {
		t.Errorf("a member without a record: %v", err)
	}
	if err := discover(t.Context(), &other, records{}, log); err == nil || !strings.Contains(err.Error(), "error querying DNS SRV records for _etcd-server no such host") {
		t.Errorf("no records: %v", err)
	}
}
