package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/wire"
)

// memberProofs are of the groups Member, Unsafe and Features, where a running member shows them.
var memberProofs = map[string]proof{
	"name": ofSelf(func(m *clientMember) string { return m.Name }, "m1"),
	"data-dir": func(t *testing.T, l *flagLab, _ string) {
		if _, err := os.Stat(l.path("data/ashlar/IDENTITY")); err != nil {
			t.Error(err)
		}
	},
	"wal-dir": func(t *testing.T, l *flagLab, _ string) {
		if files, err := filepath.Glob(l.path("wal/*")); err != nil || len(files) == 0 {
			t.Errorf("it holds %q, %v", files, err)
		}
	},
	"listen-peer-urls": func(t *testing.T, l *flagLab, _ string) {
		answers(t, l, "peer", "/members", `"peerURLs":["http://127.0.0.1:7"]`)
	},
	"listen-client-urls": func(t *testing.T, l *flagLab, _ string) {
		if got, err := l.client.Get(t.Context(), "k"); err != nil || len(got.Kvs) != 1 {
			t.Errorf("%v, %v", got, err)
		}
	},
	"quota-backend-bytes": func(t *testing.T, l *flagLab, name string) {
		if st, err := l.client.Status(t.Context(), l.client.Endpoints()[0]); err != nil || st.DbSizeQuota != 123456789 {
			t.Errorf("%v, %v", st, err)
		}
		seesQuota(t, l, name)
	},
	"max-txn-ops": func(t *testing.T, l *flagLab, name string) {
		puts := func(n int) (ops []clientv3.Op) {
			for i := range n {
				ops = append(ops, clientv3.OpPut(fmt.Sprint("txn", i), ""))
			}
			return ops
		}
		_, err := l.client.Txn(t.Context()).Then(puts(3)...).Commit()
		_, more := l.client.Txn(t.Context()).Then(puts(4)...).Commit()
		if err != nil || !errors.Is(more, rpctypes.ErrTooManyOps) {
			t.Errorf("three: %v, four: %v", err, more)
		}
		_, err = l.solo(t, Host{}, "--"+name+"=0").client.Txn(t.Context()).Then(puts(1)...).Commit()
		if !errors.Is(err, rpctypes.ErrTooManyOps) {
			t.Errorf("one, where none is allowed: %v", err)
		}
		_, err = l.solo(t, Host{}, "--"+name+"=18446744073709551615").client.Txn(t.Context()).Then(puts(129)...).Commit()
		if err != nil {
			t.Errorf("129, where any number is allowed: %v", err)
		}
	},
	"max-request-bytes": func(t *testing.T, l *flagLab, _ string) {
		_, err := l.client.Put(t.Context(), "large", strings.Repeat("x", 90_000))
		_, more := l.client.Put(t.Context(), "large", strings.Repeat("x", 110_000))
		if err != nil || !errors.Is(more, rpctypes.ErrRequestTooLarge) {
			t.Errorf("below: %v, above: %v", err, more)
		}
	},
	"max-concurrent-streams": provesMaxStreams,
	"socket-reuse-port":      provesReusePort,
	"socket-reuse-address":   provesReuseAddress,
	"memory-mlock":           provesMlock,
	"feature-gates":          provesGates,
	"watch-progress-notify-interval": func(t *testing.T, l *flagLab, _ string) {
		ctx, cancel := context.WithTimeout(t.Context(), flagPatience)
		defer cancel()
		for w := range l.client.Watch(ctx, "nothing", clientv3.WithProgressNotify()) {
			if w.IsProgressNotify() {
				return
			}
		}
		t.Error("the watch ended")
	},
}

// clientMember is a member as the client is told of it.
type clientMember struct {
	Name                 string
	PeerURLs, ClientURLs []string
}

// ofSelf shows what the member list says of the lab's member.
func ofSelf(get func(m *clientMember) string, want string) proof {
	return func(t *testing.T, l *flagLab, _ string) {
		list, err := l.client.MemberList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list.Members {
			if m.ID == l.member.ID() {
				if got := get(&clientMember{m.Name, m.PeerURLs, m.ClientURLs}); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				return
			}
		}
		t.Errorf("it is not in %v", list)
	}
}

// made shows that a setting given the text ends where get finds it: in what is made of a configuration. extra are flags that it
// needs beside it.
func made[T any](of func(cfg *config.Config, l *flagLab) T, text string, get func(T) any, want any, extra ...string) proof {
	return func(t *testing.T, l *flagLab, name string) {
		plain := parsed(t, extra...)
		if got := get(of(&plain, l)); reflect.DeepEqual(got, want) {
			t.Errorf("it is %v without the flag, too", got)
		}
		cfg := parsed(t, append([]string{"--" + name + "=" + text}, extra...)...)
		if got := get(of(&cfg, l)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// ofMember is made of what a member is opened with. What a member does with it is shown in its package, with a clock by hand.
func ofMember(text string, get func(*member.Config) any, want any, extra ...string) proof {
	return made(func(cfg *config.Config, _ *flagLab) *member.Config {
		log := slog.New(slog.DiscardHandler)
		c := memberConfig(cfg, log, newPeers(cfg, clock.Real(), log, func() {}), nil, cluster.InitialCluster{}, nil)
		return &c
	}, text, get, want, extra...)
}

// provesMaxStreams reads the settings that the server sends at the beginning of a connection.
func provesMaxStreams(t *testing.T, l *flagLab, _ string) {
	if n := wire.Dial(t, "unix", l.path("client")).MaxStreams(); n != 77 {
		t.Errorf("got %d", n)
	}
}

// provesReusePort binds one port twice.
func provesReusePort(t *testing.T, _ *flagLab, name string) {
	for _, reuse := range []bool{true, false} {
		cfg := parsed(t, "--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1",
			"--listen-peer-urls=http://127.0.0.1:0", fmt.Sprintf("--%s=%v", name, reuse))
		first, others, err := Listen(t.Context(), &cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.ListenClientURLs[0].Host = first[0].Addr().String()
		second, more, err := Listen(t.Context(), &cfg)
		if (err == nil) != reuse {
			t.Errorf("%v: bound twice: %v", reuse, err)
		}
		if err := errors.Join(closeAll(first), closeAll(others), closeAll(second), closeAll(more)); err != nil {
			t.Error(err)
		}
	}
}

// lockVariable makes the test below lock the memory of its process.
const lockVariable = "ASHLAR_TEST_LOCK_MEMORY"

// TestAProcessThatLocksItsMemory is one that provesMlock starts: it begins a member that is told to end at once, and says how much is locked.
func TestAProcessThatLocksItsMemory(t *testing.T) {
	if os.Getenv(lockVariable) == "" {
		t.Skip("it is started by TestEveryFlagDoesWhatItSays")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := parsed(t, "--memory-mlock", "--data-dir="+t.TempDir(), "--listen-client-urls=http://127.0.0.1:0",
		"--advertise-client-urls=http://127.0.0.1:1", "--listen-peer-urls=http://127.0.0.1:0")
	fmt.Println("ended:", RunIn(ctx, cfg, slog.New(slog.DiscardHandler), Host{}))
	status, err := os.ReadFile("/proc/self/status")
	fmt.Println(string(status), err)
}

// provesMlock wants memory to be locked, or the refusal of a machine that does not let the process.
func provesMlock(t *testing.T, _ *flagLab, _ string) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProcessThatLocksItsMemory$")
	cmd.Env = append(os.Environ(), lockVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, rest, _ := bytes.Cut(out, []byte("VmLck:"))
	locked, _, _ := strings.Cut(strings.TrimSpace(string(rest)), " ")
	if locked == "0" && !bytes.Contains(out, []byte("ended: lock memory: ")) || locked == "" {
		t.Errorf("nothing is locked, and nobody complains:\n%s", out)
	}
}

// provesMaxLearners: the lab has one, so a member that may have none does not start; and a running one takes as many as it may.
func provesMaxLearners(t *testing.T, l *flagLab, name string) {
	err := Run(t.Context(), parsed(t, append(l.args, "--"+name+"=0")...), slog.New(slog.DiscardHandler))
	if !errors.Is(err, cluster.ErrTooManyLearners) {
		t.Errorf("got %v", err)
	}
	seesLearners(t, l, name)
}

// provesForceNewCluster: the lab's member was not alone.
func provesForceNewCluster(t *testing.T, l *flagLab, name string) {
	before, stop := l.run(t, parsed(t, l.args...))
	if n := before.Members().Len(); n != 2 {
		t.Fatalf("there were %d members", n)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	after, stop := l.run(t, parsed(t, append(l.args, "--"+name)...))
	if n := after.Members().Len(); n != 1 {
		t.Errorf("there are %d members", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
