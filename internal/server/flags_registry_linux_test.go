package server

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/internal/authority"
)

// guarded is a discovery service that demands certificates and passwords.
type guarded struct {
	*keyring
	own     authority.Issued // that of the members that come
	address string
}

const guardedToken, guardedPlace = "guarded", "/_etcd/registry/guarded/"

// guard starts the service. The user m may write what members write, and nothing else.
func guard(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{keyring: newKeyring(t)}
	g.own = g.ca.Issue(t, "own", authority.Loopback(""))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := parsed(t, "--data-dir="+t.TempDir(), "--listen-client-urls=https://"+g.address, "--advertise-client-urls=https://"+g.address,
		"--listen-peer-urls=http://127.0.0.1:0", "--cert-file="+g.server.Cert, "--key-file="+g.server.Key, "--trusted-ca-file="+g.ca.File,
		"--client-cert-auth", "--bcrypt-cost=4")
	r := run(t, cfg)
	t.Cleanup(func() { r.end(t) })
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + g.address}, TLS: g.shows(t, &g.own), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	for what, do := range map[string]func() error{
		"size":    func() error { _, err := c.Put(ctx, guardedPlace+"_config/size", "1"); return err },
		"user":    func() error { _, err := c.UserAdd(ctx, "m", "secret"); return err },
		"root":    func() error { _, err := c.UserAdd(ctx, "root", "root"); return err },
		"role":    func() error { _, err := c.RoleAdd(ctx, "members"); return err },
		"allroot": func() error { _, err := c.RoleAdd(ctx, "root"); return err },
	} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if _, err := c.RoleGrantPermission(ctx, "members", guardedPlace, clientv3.GetPrefixRangeEnd(guardedPlace), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		t.Fatal(err)
	}
	for user, role := range map[string]string{"m": "members", "root": "root"} {
		if _, err := c.UserGrantRole(ctx, user, role); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	return g
}

// settings are the flags with which a member comes in.
func (g *guarded) settings() map[string]string {
	return map[string]string{"cacert": g.ca.File, "cert": g.own.Cert, "key": g.own.Key, "user": "m", "password": "secret"}
}

// join has a member look for its cluster with settings; timeout is that of connecting.
func (g *guarded) join(t *testing.T, ctx context.Context, settings map[string]string, timeout string) (found string, err error) {
	args := []string{"--name=x", "--data-dir=" + t.TempDir(), "--initial-advertise-peer-urls=http://127.0.0.1:8",
		"--discovery-token=" + guardedToken, "--discovery-endpoints=" + g.address, "--discovery-dial-timeout=" + timeout}
	for name, value := range settings {
		args = append(args, "--discovery-"+name+"="+value)
	}
	cfg := parsed(t, args...)
	err = discover(ctx, &cfg, net.DefaultResolver, slog.New(slog.DiscardHandler))
	return cfg.InitialCluster, err
}

// TestTheRegistryMayDemandCertificatesAndPasswords is of settings together; each of them alone has its proof in discoveryProofs.
func TestTheRegistryMayDemandCertificatesAndPasswords(t *testing.T) {
	t.Parallel()
	g := guard(t)
	with := func(changes ...string) map[string]string {
		s := g.settings()
		for pair := range slices.Chunk(changes, 2) {
			if s[pair[0]] = pair[1]; pair[1] == "" {
				delete(s, pair[0])
			}
		}
		return s
	}
	t.Run("comes in", func(t *testing.T) {
		for name, settings := range map[string]map[string]string{
			"with all that is demanded":                            with(),
			"with its certificate's TLS, whatever is said of none": with("insecure-transport", "true"),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if found, err := g.join(t, t.Context(), settings, "60s"); err != nil || found != "x=http://127.0.0.1:8" {
					t.Errorf("found %q, %v", found, err)
				}
			})
		}
	})
	t.Run("stays out", func(t *testing.T) {
		for name, settings := range map[string]map[string]string{
			"with a certificate of a stranger":       with("cert", g.stranger.Cert, "key", g.stranger.Key),
			"without a certificate":                  with("cert", "", "key", ""),
			"with verification and without anything": {"insecure-transport": "false", "user": "m", "password": "secret"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if found, err := g.join(t, t.Context(), settings, "500ms"); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
					t.Errorf("found %q, %v", found, err)
				}
			})
		}
	})
	// Nobody who logs in as nobody may look: the service says so, and is asked again until the member is stopped.
	seek(t, "--discovery-token="+guardedToken, "--discovery-endpoints="+g.address, "--discovery-cacert="+g.ca.File,
		"--discovery-cert="+g.own.Cert, "--discovery-key="+g.own.Key).hears(t, "user name is empty")
}

// warnings passes on the errors that are warned about.
type warnings struct {
	slog.Handler
	told chan<- string
}

func (warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			select {
			case w.told <- a.Value.String():
			default:
			}
		}
		return true
	})
	return nil
}
