package etcdfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// rebuilt is a state built from a file.
func rebuilt(t *testing.T, f *File, index, term uint64, conf *raftpb.ConfState) *state {
	t.Helper()
	db, err := storage.OpenState("rebuilt", storage.Options{FS: vfs.NewMem()})
	noError(t, err)
	t.Cleanup(func() { noError(t, db.Close()) })
	noError(t, f.Build(t.Context(), db, index, term, conf))
	s := &state{db: db}
	s.store, err = mvcc.Open(db)
	noError(t, err)
	s.leases, err = lease.Load(db)
	noError(t, err)
	s.members, err = cluster.Load(db)
	noError(t, err)
	s.alarms, err = cluster.LoadAlarms(db)
	noError(t, err)
	return s
}

// everything is a state with something of each kind.
func everything(t *testing.T) *state {
	s := newState(t)
	s.membership(t, func(c *cluster.Change) error {
		return errors.Join(
			c.Add(cluster.Member{ID: 7, Name: "a", PeerURLs: []string{"http://a:1"}, ClientURLs: []string{"http://a:2"}}),
			c.Add(cluster.Member{ID: 8, PeerURLs: []string{"http://b:1"}, IsLearner: true}),
			c.Remove(9), c.SetVersion("3.7.0"), c.SetDowngrade(cluster.Downgrade{TargetVersion: "3.6.0", Enabled: true}))
	})
	s.voters(t, 7)
	s.grant(t, 5, 60, 30)
	s.grant(t, -6, 600, 0)
	s.alarm(t, cluster.Alarm{Member: 7, Type: cluster.AlarmNoSpace})
	for i := range 40 {
		s.put(t, fmt.Sprintf("k%02d", i%15), fmt.Sprintf("value %d", i), 0)
		if i%4 == 3 {
			s.delete(t, fmt.Sprintf("k%02d", i%15))
		}
	}
	return s
}

func TestAStateIsTheSameAfterAFile(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*state){
		"all of history":            func(*state) {},
		"compacted":                 func(s *state) { s.compact(t, 20, 1000) },
		"compacted to 0":            func(s *state) { s.compact(t, 0, 1000) },
		"compacted to 0, not begun": func(s *state) { s.compact(t, 0, 0) },
		"compacted in part":         func(s *state) { s.compact(t, 12, 1000); s.compact(t, 30, 2) },
		"compacted to a deletion":   func(s *state) { s.compact(t, 6, 1000) },
		"compacted to the present":  func(s *state) { s.compact(t, s.store.Revision(), 1000) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			s := everything(t)
			change(s)
			f := s.export(t, false)
			meta, err := f.Meta()
			noError(t, err)
			r := rebuilt(t, f, meta.Index, meta.Term, meta.ConfState)
			compareStates(t, s, r)
			// Both go on alike, and a compaction of what was imported leaves the same.
			for _, x := range []*state{s, r} {
				x.put(t, "k03", "later", 0)
				x.delete(t, "k05")
				x.compact(t, x.store.Revision(), 1000)
			}
			compareStates(t, s, r)
			if s.store.SizeInUse() != r.store.SizeInUse() {
				t.Errorf("%d bytes in use, want %d", r.store.SizeInUse(), s.store.SizeInUse())
			}
		})
	}
}

func compareStates(t *testing.T, want, got *state) {
	t.Helper()
	wi, wt := want.store.Applied()
	gi, gt := got.store.Applied()
	if wi != gi || wt != gt || want.store.Revision() != got.store.Revision() || want.store.CompactRevision() != got.store.CompactRevision() {
		t.Fatalf("at entry %d of term %d, revision %d, compacted %d; want %d, %d, %d, %d", gi, gt, got.store.Revision(),
			got.store.CompactRevision(), wi, wt, want.store.Revision(), want.store.CompactRevision())
	}

	for rev := max(1, want.store.CompactRevision()); rev <= want.store.Revision(); rev++ {
		wh, wn := want.look(t, rev)
		gh, gn := got.look(t, rev)
		if wh != gh || wn != gn {
			t.Errorf("at revision %d the hash is %x with %d keys, want %x with %d", rev, gh, gn, wh, wn)
		}
	}
	if w, g := want.leases.List(), got.leases.List(); !slices.Equal(w, g) {
		t.Errorf("the leases are %v, want %v", g, w)
	}
	if w, g := want.alarms.List(), got.alarms.List(); !slices.Equal(w, g) {
		t.Errorf("the alarms are %v, want %v", g, w)
	}
	w, _ := json.Marshal(want.members.Members())
	g, _ := json.Marshal(got.members.Members())
	if string(w) != string(g) || !got.members.IsRemoved(9) || want.members.Version() != got.members.Version() ||
		want.members.Downgrade() != got.members.Downgrade() {
		t.Errorf("the members are %s, want %s", g, w)
	}
}

// look returns the hash of the versions up to a revision, as they are and not as a compaction kept it, and the number of keys at it.
func (s *state) look(t *testing.T, rev int64) (hash uint32, keys int64) {
	t.Helper()
	v, err := s.store.View(rev)
	noError(t, err)
	defer func() { noError(t, v.Close()) }()
	hash, err = v.Hash(t.Context())
	noError(t, err)
	r, err := v.Range(mvcc.RangeOptions{Key: []byte{0}, End: []byte{0}, CountOnly: true}, func(mvcc.KV) error { return nil })
	noError(t, err)
	return hash, r.Count
}

func TestKeysOnLeasesHangThere(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.grant(t, 5, 60, 0)
	s.put(t, "a", "1", 5)
	s.put(t, "b", "1", 5)
	s.put(t, "b", "2", 0)
	s.put(t, "c", "1", 5)
	s.delete(t, "c")
	r := rebuilt(t, s.export(t, false), 100, 3, &raftpb.ConfState{Voters: []uint64{7}})
	keys, err := r.leases.Keys(r.db, 5)
	noError(t, err)
	if len(keys) != 1 || string(keys[0]) != "a" {
		t.Errorf("the keys are %q", keys)
	}
	if index, term := r.store.Applied(); index != 100 || term != 3 {
		t.Errorf("applied is %d of term %d", index, term)
	}
}

func TestAFileFromTheFutureIsRefused(t *testing.T) {
	t.Parallel()
	s := everything(t)
	db, err := storage.OpenState("refused", storage.Options{FS: vfs.NewMem()})
	noError(t, err)
	t.Cleanup(func() { noError(t, db.Close()) })
	if err := s.export(t, false).Build(t.Context(), db, 3, 1, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestTheV2StoreHasTheMembership(t *testing.T) {
	t.Parallel()
	s := everything(t)
	c, err := Read(s.db)
	noError(t, err)
	defer func() { noError(t, c.Close()) }()
	data, err := c.V2Store()
	noError(t, err)
	var got v2Store
	noError(t, json.Unmarshal(data, &got))
	values := map[string]string{}
	got.Root.collect(values)
	want := map[string]string{
		"/0/members/7/raftAttributes": `{"peerURLs":["http://a:1"]}`,
		"/0/members/7/attributes":     `{"name":"a","clientURLs":["http://a:2"]}`,
		"/0/members/8/raftAttributes": `{"peerURLs":["http://b:1"],"isLearner":true}`,
		"/0/removed_members/9":        "removed",
		"/0/version":                  "3.7.0",
	}
	if fmt.Sprint(values) != fmt.Sprint(want) || got.CurrentIndex == 0 || got.CurrentVersion != 2 {
		t.Errorf("got %v, %d, %d; want %v", values, got.CurrentIndex, got.CurrentVersion, want)
	}
}

func (n *v2Node) collect(values map[string]string) {
	if n.Children == nil {
		values[n.Path] = n.Value
	}
	for _, child := range n.Children {
		child.collect(values)
	}
}
