package cluster

import (
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

func TestIDsAreThoseThatEtcdComputes(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		url, token string
		want       string
	}{
		"the first of three":            {"https://10.240.0.10:2380", "etcd-cluster-0", "f98dc20bce6225a0"},
		"the second":                    {"https://10.240.0.11:2380", "etcd-cluster-0", "ffed16798470cab5"},
		"the third":                     {"https://10.240.0.12:2380", "etcd-cluster-0", "3a57933972cb5131"},
		"a member with etcd's defaults": {"http://localhost:2380", "etcd-cluster", "8e9e05c52164694d"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MemberID([]string{c.url}, c.token, nil).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	ic, err := ParseInitialCluster("default=http://localhost:2380")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Found(ic, "etcd-cluster")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.ID().String(); got != "cdf818194e3a8c32" {
		t.Errorf("the cluster's id is %s", got)
	}
}

// TestBootstrapEntriesAreThoseOfEtcd compares with the first entry of a log that etcd 3.7.1 began for
// --initial-cluster default=http://127.0.0.1:24800.
func TestBootstrapEntriesAreThoseOfEtcd(t *testing.T) {
	t.Parallel()
	ic, err := ParseInitialCluster("default=http://127.0.0.1:24800")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Found(ic, "etcd-cluster")
	if err != nil {
		t.Fatal(err)
	}
	if f.ID() != 2755613793311995676 {
		t.Errorf("the cluster's id is %d", uint64(f.ID()))
	}
	const want = "10001895b49ef3caf8c0b5880122517b226964223a393832393935343735343934303733383036392c" +
		"227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a3234383030225d2c" +
		"226e616d65223a2264656661756c74227d"
	es := f.BootstrapEntries()
	if len(es) != 1 || hex.EncodeToString(es[0].GetData()) != want || es[0].GetType() != raftpb.EntryConfChange {
		t.Errorf("the entries are %v", es)
	}
}

func TestBootstrapEntriesAreSortedAndNumbered(t *testing.T) {
	t.Parallel()
	ic, err := ParseInitialCluster("b=http://b:1,a=http://a:1,c=http://c:1,a=http://a:2")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Found(ic, "t")
	if err != nil {
		t.Fatal(err)
	}
	es := f.BootstrapEntries()
	if len(es) != 3 {
		t.Fatalf("%d entries", len(es))
	}
	for i, e := range es {
		if e.GetIndex() != uint64(i+1) || e.GetTerm() != 1 {
			t.Errorf("entry %d has index %d and term %d", i, e.GetIndex(), e.GetTerm())
		}
		if i > 0 && f.members[i].ID <= f.members[i-1].ID {
			t.Error("members are not sorted by id")
		}
	}
	if a, ok := f.ByName("a"); !ok || len(a.PeerURLs) != 2 {
		t.Errorf("member a is %+v", a)
	}
}

// TestIDsComeFromAddressesAsEtcdSpellsThem: members that are told one address in two spellings must get the same ids.
func TestIDsComeFromAddressesAsEtcdSpellsThem(t *testing.T) {
	t.Parallel()
	var ids []ID
	for _, text := range []string{"a=http://A:1,b=https://b:2", "b= HTTPS://b:2, a=HTTP://A:1,,"} {
		ic, err := ParseInitialCluster(text)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Found(ic, "t")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, f.ID())
	}
	if ids[0] != ids[1] {
		t.Errorf("the ids are %v", ids)
	}
	for _, text := range []string{"a", "a=", "=http://%zz", "a=http://b:1,c"} {
		if _, err := ParseInitialCluster(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestMembershipSurvivesAReload(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	open := func() (*storage.DB, *Membership) {
		db, err := storage.OpenState("state", storage.Options{
			FS: fs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Fatal: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := Load(db)
		if err != nil {
			t.Fatal(err)
		}
		return db, m
	}
	db, m := open()
	b := db.NewBatch()
	c := m.Begin(b)
	err := errors.Join(
		c.Add(Member{ID: 1, PeerURLs: []string{"http://a"}, IsLearner: true}),
		c.Add(Member{ID: 2, PeerURLs: []string{"http://b"}}),
		c.Add(Member{ID: 3, PeerURLs: []string{"http://c"}}),
		c.SetAttributes(1, "one", []string{"http://client"}),
		c.SetAttributes(9, "nobody", nil),
		c.UpdatePeerURLs(2, []string{"http://b2"}),
		c.Promote(1), c.Remove(3), c.SetVersion("3.7.0"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Members()) != 0 {
		t.Error("readers see a change before it is published")
	}
	if err := errors.Join(db.Commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	c.Publish()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, m = open()
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	got := m.Members()
	if len(got) != 2 || got[0].Name != "one" || got[0].IsLearner || got[1].PeerURLs[0] != "http://b2" {
		t.Errorf("members are %+v", got)
	}
	if !m.IsRemoved(3) || m.Version() != "3.7.0" {
		t.Errorf("removed %v, version %q", m.IsRemoved(3), m.Version())
	}
	checks := map[string]struct{ got, want error }{
		"adding a removed id":       {m.CheckAdd(Member{ID: 3}, 1), ErrIDRemoved},
		"adding a taken id":         {m.CheckAdd(Member{ID: 1}, 1), ErrIDExists},
		"adding a taken URL":        {m.CheckAdd(Member{ID: 7, PeerURLs: []string{"http://a"}}, 1), ErrPeerURLExists},
		"promoting a voter":         {m.CheckPromote(1), ErrNotLearner},
		"promoting nobody":          {m.CheckPromote(8), ErrIDNotFound},
		"removing nobody":           {m.CheckRemove(8), ErrIDNotFound},
		"updating to a taken URL":   {m.CheckUpdate(Member{ID: 2, PeerURLs: []string{"http://a"}}), ErrPeerURLExists},
		"updating to one's own URL": {m.CheckUpdate(Member{ID: 2, PeerURLs: []string{"http://b2"}}), nil},
	}
	for name, c := range checks {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}
