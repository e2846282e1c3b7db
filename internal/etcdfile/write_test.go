package etcdfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// etcdContent is what etcd 3.7.1 wrote into its database when it was asked for what TestFileIsAsEtcdWritesIt writes.
const etcdContent = `alarm
  "\bM\x10\x01" = ""
auth
  "authRevision" = "\x00\x00\x00\x00\x00\x00\x00\x01"
authRoles
authUsers
cluster
  "clusterVersion" = "3.7.0"
  "downgrade" = "{\"target-version\":\"\",\"enabled\":false}"
key
  "\x00\x00\x00\x00\x00\x00\x00\x02_\x00\x00\x00\x00\x00\x00\x00\x00" = "\n\x02k0\x10\x02\x18\x02 \x01*\x01v0\xb4$"
  "\x00\x00\x00\x00\x00\x00\x00\x03_\x00\x00\x00\x00\x00\x00\x00\x00" = "\n\x02k1\x10\x03\x18\x03 \x01*\x01v0\xb4$"
  "\x00\x00\x00\x00\x00\x00\x00\x04_\x00\x00\x00\x00\x00\x00\x00\x00" = "\n\x02k2\x10\x04\x18\x04 \x01*\x01v0\xb4$"
  "\x00\x00\x00\x00\x00\x00\x00\x05_\x00\x00\x00\x00\x00\x00\x00\x00" = "\n\x02k0\x10\x02\x18\x05 \x02*\x01v0\xb4$"
  "\x00\x00\x00\x00\x00\x00\x00\x06_\x00\x00\x00\x00\x00\x00\x00\x00" = "\n\x02k1\x10\x03\x18\x06 \x02*\x01v0\xb4$"
  "\x00\x00\x00\x00\x00\x00\x00\a_\x00\x00\x00\x00\x00\x00\x00\x00" = "\n\x01x\x10\a\x18\a \x01*\x01y"
  "\x00\x00\x00\x00\x00\x00\x00\a_\x00\x00\x00\x00\x00\x00\x00\x01" = "\n\x01z\x10\a\x18\a \x01*\x01y"
  "\x00\x00\x00\x00\x00\x00\x00\b_\x00\x00\x00\x00\x00\x00\x00\x00t" = "\n\x02k1"
lease
  "\x00\x00\x00\x00\x00\x00\x124" = "\b\xb4$\x10\xe8\a"
members
  "41b2008c1d8b631b" = "{\"id\":4733846760110908187,\"peerURLs\":[\"http://127.0.0.1:37902\"],\"name\":\"default\",\"clientURLs\":[\"http://127.0.0.1:37901\"]}"
members_removed
meta
  "confState" = "{\"voters\":[4733846760110908187],\"auto_leave\":false}"
  "consistent_index" = "\x00\x00\x00\x00\x00\x00\x00\x0f"
  "finishedCompactRev" = "\x00\x00\x00\x00\x00\x00\x00\x04_\x00\x00\x00\x00\x00\x00\x00\x00"
  "scheduledCompactRev" = "\x00\x00\x00\x00\x00\x00\x00\x04_\x00\x00\x00\x00\x00\x00\x00\x00"
  "storageVersion" = "3.7.0"
  "term" = "\x00\x00\x00\x00\x00\x00\x00\x02"
`

func TestFileIsAsEtcdWritesIt(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.voters(t, 0x41b2008c1d8b631b)
	s.membership(t, func(c *cluster.Change) error {
		return c.Add(cluster.Member{
			ID: 0x41b2008c1d8b631b, Name: "default",
			PeerURLs: []string{"http://127.0.0.1:37902"}, ClientURLs: []string{"http://127.0.0.1:37901"},
		})
	})
	s.membership(t, func(c *cluster.Change) error { return c.SetVersion("3.7.0") })
	s.grant(t, 4660, 1000, 0)
	for i := range 5 {
		s.put(t, fmt.Sprint("k", i%3), "v", 4660)
	}
	s.entry(t, func(w *mvcc.Writer) error {
		return errors.Join(w.PutBlind([]byte("x"), []byte("y"), 0), w.PutBlind([]byte("z"), []byte("y"), 0))
	})
	s.delete(t, "k1")
	s.alarm(t, cluster.Alarm{Member: 77, Type: cluster.AlarmNoSpace})
	s.compact(t, 4, 100)
	s.membership(t, func(c *cluster.Change) error {
		return c.SetDowngrade(cluster.Downgrade{TargetVersion: "3.6.0", Enabled: true})
	})
	s.membership(t, func(c *cluster.Change) error { return c.SetDowngrade(cluster.Downgrade{}) })
	wantLines(t, s.export(t, false).dump(t), etcdContent)
}

func TestRareRecordsComeBack(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.grant(t, -5, 3, 2)
	s.grant(t, 9, 30, 0)
	s.alarm(t, cluster.Alarm{Member: 1 << 63, Type: -7})
	s.membership(t, func(c *cluster.Change) error {
		return errors.Join(
			c.Add(cluster.Member{ID: 0xabc, PeerURLs: []string{"http://a"}, IsLearner: true}),
			c.Add(cluster.Member{ID: 0xdef, PeerURLs: []string{"http://b"}}),
			c.Remove(0xdef),
			c.SetDowngrade(cluster.Downgrade{TargetVersion: "3.6.0", Enabled: true}))
	})
	f := s.export(t, false)
	leases, err := f.Leases()
	noError(t, err)
	if len(leases) != 2 || leases[0].ID != 9 || leases[1].ID != -5 || leases[1].TTL != 3 || leases[1].Remaining != 2 {
		t.Errorf("leases: got %+v", leases)
	}
	alarms, err := f.Alarms()
	noError(t, err)
	if len(alarms) != 1 || alarms[0] != (cluster.Alarm{Member: 1 << 63, Type: -7}) {
		t.Errorf("alarms: got %+v", alarms)
	}
	members, removed, err := f.Members()
	noError(t, err)
	if len(members) != 1 || members[0].ID != 0xabc || !members[0].IsLearner || len(removed) != 1 || removed[0] != 0xdef {
		t.Errorf("members: got %+v, removed %v", members, removed)
	}
	m, err := f.Meta()
	noError(t, err)
	if !m.Downgrade.Enabled || m.Downgrade.TargetVersion != "3.6.0" || m.Index != 4 || m.Term != 2 || m.Compacted() != -1 || m.AuthEnabled {
		t.Errorf("meta: got %+v", m)
	}
}

// TestMembersAreInTheOrderOfTheirNames, which have no leading zeros: a03… is an id below 9f2d….
func TestMembersAreInTheOrderOfTheirNames(t *testing.T) {
	t.Parallel()
	ids := []cluster.ID{0xa03ec158e0a0871, 0x9f2d73a2d68bf5eb, 0xa13ec158e0a0871, 0x8f2d73a2d68bf5eb}
	s := newState(t)
	s.membership(t, func(c *cluster.Change) error {
		var errs []error
		for i, id := range ids {
			errs = append(errs, c.Add(cluster.Member{ID: id, PeerURLs: []string{"http://a"}, IsLearner: i > 1}))
		}
		return errors.Join(append(errs, c.Remove(ids[2]), c.Remove(ids[3]))...)
	})
	members, removed, err := s.export(t, false).Members()
	noError(t, err)
	if len(members) != 2 || len(removed) != 2 {
		t.Errorf("members %+v, removed %v", members, removed)
	}
}

// TestAlarmsAreInTheOrderOfTheirKeys, which begin with the low bits of the members' ids, and with no member's for the id 0.
func TestAlarmsAreInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	want := []cluster.Alarm{
		{Member: 0, Type: cluster.AlarmNoSpace},
		{Member: 0x9f2d73a2d68bf501, Type: cluster.AlarmNoSpace},
		{Member: 0x8f2d73a2d68bf502, Type: cluster.AlarmCorrupt},
		{Member: 0x7f2d73a2d68bf503, Type: cluster.AlarmNoSpace},
		{Member: 0x7f2d73a2d68bf503, Type: cluster.AlarmCorrupt},
	}
	s := newState(t)
	for _, x := range want {
		s.alarm(t, x)
	}
	got, err := s.export(t, false).Alarms()
	noError(t, err)
	byID := func(a, b cluster.Alarm) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.Type, b.Type))
	}
	slices.SortFunc(got, byID)
	if slices.SortFunc(want, byID); !slices.Equal(got, want) {
		t.Errorf("the alarms are %v, want %v", got, want)
	}
}

// TestFileHashesAsTheState does random changes and compactions, some of them half done, and compares at every revision.
func TestFileHashesAsTheState(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, seed))
			s := newState(t)
			for range 3 {
				for range 40 {
					key := fmt.Sprint("key", r.IntN(12))
					if r.IntN(4) == 0 {
						s.delete(t, key)
					} else {
						s.put(t, key, strings.Repeat("v", r.IntN(100)), 0)
					}
				}
				compareHashes(t, s, s.export(t, r.IntN(2) == 0))
				if from := max(0, s.store.CompactRevision()); from < s.store.Revision() {
					s.compact(t, from+1+r.Int64N(s.store.Revision()-from), r.IntN(40))
				}
				compareHashes(t, s, s.export(t, true))
			}
		})
	}
}

func compareHashes(t *testing.T, s *state, f *File) {
	t.Helper()
	current, err := f.Revision()
	noError(t, err)
	if current != s.store.Revision() {
		t.Fatalf("the file is at revision %d, the state at %d", current, s.store.Revision())
	}
	for rev := max(1, s.store.CompactRevision()); rev <= current; rev++ {
		v, err := s.store.View(rev)
		noError(t, err)
		want, err := v.Hash(t.Context())
		noError(t, err)
		got, compact, at, err := f.HashKV(t.Context(), rev)
		noError(t, err)
		if got != want || compact != v.CompactRevision() || at != rev {
			t.Errorf("at revision %d: got %x at %d, compacted to %d; want %x, %d", rev, got, at, compact, want, v.CompactRevision())
		}
		noError(t, v.Close())
	}
	if _, _, _, err := f.HashKV(t.Context(), current+1); !errors.Is(err, mvcc.ErrFutureRevision) {
		t.Errorf("a future revision: got %v", err)
	}
	if c := s.store.CompactRevision(); c > 1 {
		if _, _, _, err := f.HashKV(t.Context(), c-1); !errors.Is(err, mvcc.ErrCompacted) {
			t.Errorf("a compacted revision: got %v", err)
		}
	}
}

func TestContentIsThatOfOneInstant(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.put(t, "a", "1", 0)
	c, err := Read(s.db)
	noError(t, err)
	s.put(t, "b", "2", 0)
	s.grant(t, 7, 10, 0)
	s.alarm(t, cluster.Alarm{Member: 1, Type: cluster.AlarmNoSpace})
	path := filepath.Join(t.TempDir(), "db")
	_, err = c.Write(t.Context(), path)
	noError(t, err)
	noError(t, c.Close())
	f := openFile(t, path)
	rev, err := f.Revision()
	noError(t, err)
	leases, err := f.Leases()
	noError(t, err)
	alarms, err := f.Alarms()
	noError(t, err)
	if m, err := f.Meta(); err != nil || rev != 2 || len(leases) != 0 || len(alarms) != 0 || m.Index != 1 {
		t.Errorf("got revision %d, leases %v, alarms %v, %+v, %v", rev, leases, alarms, m, err)
	}
}

func TestManyLargeVersions(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for i := range 40 {
		s.put(t, fmt.Sprintf("%02d", (i*7)%40), strings.Repeat(fmt.Sprint(i), 1<<19), 0)
	}
	f := s.export(t, false)
	n := 0
	noError(t, f.Versions(t.Context(), 0, func(at Revision, kv mvcc.KV) error {
		if want := fmt.Sprintf("%02d", (n*7)%40); string(kv.Key()) != want || at.Main != int64(n+2) || len(kv.Value()) < 1<<19 {
			t.Errorf("version %d: key %s at %d, %d bytes", n, kv.Key(), at.Main, len(kv.Value()))
		}
		n++
		return nil
	}))
	if n != 40 {
		t.Errorf("got %d versions", n)
	}
	compareHashes(t, s, f)
}

func TestWritingStopsAndLeavesTheStateAlone(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.put(t, "a", "1", 0)
	c, err := Read(s.db)
	noError(t, err)
	defer func() { noError(t, c.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Write(ctx, filepath.Join(t.TempDir(), "db")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: got %v", err)
	}
	if _, err := c.Write(t.Context(), filepath.Join(t.TempDir(), "missing", "db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: got %v", err)
	}
	full := filepath.Join(t.TempDir(), "db")
	noError(t, os.Symlink("/dev/full", full))
	if _, err := c.Write(t.Context(), full); err == nil {
		t.Error("a device that takes nothing: no error")
	}
	_, err = c.Write(t.Context(), filepath.Join(t.TempDir(), "db"))
	noError(t, err)
}

func TestHashFollowsTheContentAlone(t *testing.T) {
	t.Parallel()
	hash := func(s *state) uint32 {
		c, err := Read(s.db)
		noError(t, err)
		defer func() { noError(t, c.Close()) }()
		h, err := c.Hash(t.Context(), 1)
		noError(t, err)
		return h
	}
	a, b := newState(t), newState(t)
	if hash(a) != hash(b) {
		t.Error("two empty states differ")
	}
	a.grant(t, 7, 10, 0)
	if hash(a) == hash(b) {
		t.Error("a lease makes no difference")
	}
	b.put(t, "a", "1", 0)
	b.grant(t, 7, 10, 0)
	if hash(a) != hash(b) {
		t.Error("the applied index makes a difference")
	}
}

func TestAHashEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.grant(t, 7, 10, 0)
	c, err := Read(s.db)
	noError(t, err)
	defer func() { noError(t, c.Close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Hash(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
