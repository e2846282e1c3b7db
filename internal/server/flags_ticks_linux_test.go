package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/member"
)

// tickProofs are of settings whose effect takes its time, or spares it. Most members go by clocks by hand, and none is the lab's: they
// are carried out beside each other.
var tickProofs = map[string]proof{
	"heartbeat-interval":            seesHeartbeats,
	"election-timeout":              both(seesElections, seesLeastLease),
	"initial-election-tick-advance": seesHaste,
	"pre-vote":                      seesPreVote,
	"strict-reconfig-check":         seesStrictness,
	"auto-compaction-retention":     seesRetention,
	"auto-compaction-mode":          seesKeptRevisions,
	"auth-token":                    seesToken,
	"auth-token-ttl":                seesTokensEnd,
	"bcrypt-cost":                   seesBcryptCost,
	"corrupt-check-time":            seesCorruptCheck,
	"compact-hash-check-time":       seesCompactHashCheck,
	"snapshot-catchup-entries":      seesKeptEntries,
	"unsafe-no-fsync":               seesPowerCut,
	"grpc-keepalive-min-time":       seesPingsCounted,
	"grpc-keepalive-interval":       seesServerPing,
	"grpc-keepalive-timeout":        seesServerGiveUp,
	"raft-read-timeout":             seesSilentStreamsEnd,
	"raft-write-timeout":            seesLateWritesFail,
}

// seesHeartbeats counts what a leader sends to a learner.
func seesHeartbeats(t *testing.T, l *flagLab, name string) {
	for value, period := range map[string]time.Duration{"50": 50 * time.Millisecond, "250": 250 * time.Millisecond} {
		other, c := newStand(t), newPacedClock()
		x := l.solo(t, Host{Clock: c}, "--"+name+"="+value, "--election-timeout=5000")
		x.learns(t, other)
		for range 4 {
			if n := len(other.beats); n != 0 {
				t.Errorf("with %s ms there are %d heartbeats too many", value, n)
			}
			c.Advance(period - 50*time.Millisecond)
			x.put(t, 3)
			if n := len(other.beats); n != 0 {
				t.Errorf("with %s ms there is a heartbeat too early", value)
			}
			c.tick(t, 50*time.Millisecond)
			eventually(t, "a heartbeat comes after "+value+" ms", func() bool { return len(other.beats) > 0 })
			<-other.beats
		}
	}
}

// seesElections counts the ticks until a member without a leader stands for election: as many as the timeout has, and less than
// twice as many.
func seesElections(t *testing.T, l *flagLab, name string) {
	for value, ticks := range map[string]int{"1000": 10, "3000": 30} {
		other, c := newStand(t), newPacedClock()
		x := l.solo(t, Host{Clock: c}, append(besides(t, other), "--"+name+"="+value)...)
		if n := ticksToElection(t, x, c, 100*time.Millisecond, 2); n < ticks || n > 2*ticks {
			t.Errorf("with %s ms it stands for election after %d ticks", value, n)
		}
	}
}

// ticksToElection lets ticks pass, which so many wait for, until a member stands for election. It may be told of one tick late.
func ticksToElection(t *testing.T, x *solo, c *pacedClock, tick time.Duration, waiters int) (n int) {
	t.Helper()
	c.await(t, tick, waiters)
	for !x.says(t, "became pre-candidate") {
		c.tick(t, tick)
		if n++; n > 1000 {
			t.Fatal("it never stands for election")
		}
	}
	return n
}

// seesLeastLease grants a lease as short as a member allows: it must outlast an election.
func seesLeastLease(t *testing.T, l *flagLab, name string) {
	for value, want := range map[string]int64{"1000": 2, "3000": 5} {
		c, _ := alone(t, l, "--"+name+"="+value)
		if r, err := c.Grant(t.Context(), 1); err != nil || r.TTL != want {
			t.Errorf("with %s ms a lease has %v, %v; want %d s", value, r, err, want)
		}
	}
}

// seesHaste counts the ticks of a member whose two others are connected: the wait is shortened by all but two, or not at all.
func seesHaste(t *testing.T, l *flagLab, name string) {
	const tick, ticks = 400 * time.Millisecond, 50
	for value, hastens := range map[string]bool{"true": true, "false": false} {
		first, second, c := newStand(t), newStand(t), newPacedClock()
		x := l.solo(t, Host{Clock: c}, append(besides(t, first, second), "--"+name+"="+value, "--heartbeat-interval=400", "--election-timeout=20000")...)
		eventually(t, "both others are connected", func() bool { return x.connections(t, l) == 2 })
		if hastens {
			c.await(t, 50*time.Millisecond, 1)
			c.tick(t, 50*time.Millisecond)
			eventually(t, "it hastens", func() bool { return x.says(t, "shortening the wait for an election") })
		}
		n := ticksToElection(t, x, c, tick, 2)
		if hastens && n > ticks+2 || !hastens && n < ticks || x.says(t, "shortening the wait") != hastens {
			t.Errorf("--%s=%s: it stands for election after %d ticks", name, value, n)
		}
	}
}

// connections counts the members that one says to be connected with.
func (x *solo) connections(t *testing.T, l *flagLab) (n int) {
	t.Helper()
	resp, err := l.get(t, filepath.Base(x.dir)+"/m", http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "etcd_network_active_peers{") && strings.HasSuffix(line, " 1\n") {
			n++
		}
	}
	return n
}

// readable tells whether a revision can still be read.
func (x *solo) readable(t *testing.T, revision int64) bool {
	t.Helper()
	_, err := x.client.Get(t.Context(), "k", clientv3.WithRev(revision))
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatal(err)
	}
	return err == nil
}

// seesRetention wants history to be there until the time has passed, and then to go.
func seesRetention(t *testing.T, l *flagLab, name string) {
	const sample = 6 * time.Minute // a tenth of the hour between two compactions
	c := newPacedClock()
	x := l.solo(t, Host{Clock: c}, "--"+name+"=5h")
	x.put(t, 1)
	c.await(t, sample, 1)
	for range 49 {
		c.tick(t, sample)
		x.put(t, 1)
	}
	if !x.readable(t, 2) {
		t.Error("history is gone before the time")
	}
	eventually(t, "history is gone", func() bool { c.tick(t, sample); return !x.readable(t, 2) })
}

// seesKeptRevisions wants as many revisions to be left as were asked for, once it is time.
func seesKeptRevisions(t *testing.T, l *flagLab, name string) {
	c := newPacedClock()
	x := l.solo(t, Host{Clock: c}, "--"+name+"=revision", "--auto-compaction-retention=7")
	newest := x.put(t, 20)
	c.await(t, 5*time.Minute, 1)
	c.Advance(5*time.Minute - 1)
	if !x.readable(t, 2) {
		t.Error("history is gone before it is time")
	}
	c.Advance(1)
	eventually(t, "history is gone", func() bool { return !x.readable(t, newest-8) })
	if !x.readable(t, newest-7) {
		t.Error("too much of it is gone")
	}
}

// seesTokensEnd uses a token now and then, and then not for the time that it has.
func seesTokensEnd(t *testing.T, l *flagLab, name string) {
	c := newPacedClock()
	x := l.solo(t, Host{Clock: c}, "--"+name+"=9", "--bcrypt-cost=4")
	withRoot(t, x.client)
	if _, err := x.client.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:"+x.dir+"/c", grpc.WithTransportCredentials(insecure.NewCredentials())) // the client would log in anew
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := etcdserverpb.NewAuthClient(conn).Authenticate(t.Context(), &etcdserverpb.AuthenticateRequest{Name: "root", Password: "root"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "token", r.Token)
	for _, s := range []struct {
		pass time.Duration
		want error
	}{{8 * time.Second, nil}, {8 * time.Second, nil}, {9 * time.Second, rpctypes.ErrInvalidAuthToken}} {
		c.Advance(s.pass)
		_, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("k")})
		if !errors.Is(rpctypes.Error(err), s.want) {
			t.Errorf("unused for %v: got %v, want %v", s.pass, err, s.want)
		}
	}
}

// seesKeptEntries writes all that was applied to disk: the log is cut below it, but for what followers may yet ask for.
func seesKeptEntries(t *testing.T, l *flagLab, name string) {
	for value, kept := range map[string]uint64{"9": 9, "60": 60} {
		x := l.solo(t, Host{}, "--"+name+"="+value)
		x.put(t, 100)
		applied := x.Node().Applied()
		if err := x.Flush(); err != nil {
			t.Fatal(err)
		}
		// It is cut when there is a quarter more than is kept.
		eventually(t, "the log is cut", func() bool { return x.Log().FirstIndex()+kept+kept/4+1 >= applied })
		if left := x.Log().LastIndex() + 1 - x.Log().FirstIndex(); left < kept {
			t.Errorf("with %s, %d entries are left", value, left)
		}
	}
}

// seesPowerCut cuts the power after a write: it is lost when nobody waits for the disk, and only then. The next start may notice.
func seesPowerCut(t *testing.T, l *flagLab, name string) {
	for value, lost := range map[string]bool{"true": true, "false": false} {
		disk := vfs.NewCrashableMem()
		x := l.solo(t, Host{FS: disk}, "--"+name+"="+value)
		written := x.put(t, 1)
		left := disk.CrashClone(vfs.CrashCloneCfg{})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		revision := int64(0)
		cfg := parsed(t, "--data-dir="+filepath.Join(x.dir, "data"), "--listen-client-urls=unix://"+x.dir+"/c2", "--advertise-client-urls=http://127.0.0.1:1",
			"--listen-peer-urls=unix://"+x.dir+"/p2")
		err := RunIn(ctx, cfg, slog.New(slog.DiscardHandler), Host{FS: left, Serving: func(m *member.Member) { revision = m.Store().Revision(); stop() }})
		if (revision < written) != lost || err != nil && !lost {
			t.Errorf("--%s=%s: of revision %d the %dth is left, %v", name, value, written, revision, err)
		}
	}
}
