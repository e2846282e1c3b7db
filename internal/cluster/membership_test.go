package cluster

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// membershipOf is the membership of a new state with these members, and one more, of the id 99, that was removed.
func membershipOf(t *testing.T, members ...Member) *Membership {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := Load(db)
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	c := m.Begin(b)
	for _, x := range append(members, Member{ID: 99}) {
		if err := c.Add(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.Remove(99), db.Commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	c.Publish()
	return m
}

var (
	startedA, startedB, startedC = Member{ID: 1, Name: "a"}, Member{ID: 2, Name: "b"}, Member{ID: 3, Name: "c"}
	silentD                      = Member{ID: 4}
	learnerE, silentLearnerF     = Member{ID: 5, Name: "e", IsLearner: true}, Member{ID: 6, IsLearner: true}
)

func TestAChangeOfVotersLeavesAQuorumThatWasStarted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		members       []Member
		add, promote  bool
		removeA       bool // who was started
		removeD       bool // who was not, or is not there
		voters, total int
	}{
		"one":                          {[]Member{startedA}, true, true, false, true, 1, 1},
		"one that was not started":     {[]Member{silentD}, false, false, false, false, 1, 1},
		"one and learners":             {[]Member{startedA, learnerE, silentLearnerF}, true, true, false, true, 1, 3},
		"two":                          {[]Member{startedA, startedB}, true, true, true, true, 2, 2},
		"two, one not started":         {[]Member{startedA, silentD}, false, true, false, true, 2, 2},
		"three":                        {[]Member{startedA, startedB, startedC}, true, true, true, true, 3, 3},
		"three, one not started":       {[]Member{startedA, startedB, silentD}, false, true, false, true, 3, 3},
		"four, one not started":        {[]Member{startedA, startedB, startedC, silentD}, true, true, true, true, 4, 4},
		"two, one not, and a learner":  {[]Member{startedA, silentD, learnerE}, false, true, false, true, 2, 3},
		"three, and a silent learner":  {[]Member{startedA, startedB, startedC, silentLearnerF}, true, true, true, true, 3, 4},
		"nobody but a learner started": {[]Member{silentD, learnerE}, false, false, false, false, 1, 2},
	} {
		m := membershipOf(t, c.members...)
		if got := m.MayAddVoter(); got != c.add {
			t.Errorf("%s: a voter may be added: %t", name, got)
		}
		if got := m.MayPromote(); got != c.promote {
			t.Errorf("%s: a learner may be promoted: %t", name, got)
		}
		if got := m.MayRemoveVoter(1); got != c.removeA {
			t.Errorf("%s: one that was started may be removed: %t", name, got)
		}
		if got := m.MayRemoveVoter(4); got != c.removeD {
			t.Errorf("%s: one that was not may be removed: %t", name, got)
		}
		if len(m.Voters()) != c.voters || m.Len() != c.total || len(m.Members()) != c.total {
			t.Errorf("%s: %d voters of %d", name, len(m.Voters()), m.Len())
		}
	}
}

func TestWhoMayComeAndGo(t *testing.T) {
	t.Parallel()
	m := membershipOf(t, startedA, learnerE, silentLearnerF)
	for name, c := range map[string]struct{ got, want error }{
		"a learner as the last there may be":    {m.CheckAdd(Member{ID: 7, IsLearner: true}, 3), nil},
		"a learner too many":                    {m.CheckAdd(Member{ID: 7, IsLearner: true}, 2), ErrTooManyLearners},
		"a voter beside too many learners":      {m.CheckAdd(Member{ID: 7}, 0), nil},
		"the only voter goes":                   {m.CheckRemove(1), ErrLastVoter},
		"a learner of the only voter goes":      {m.CheckRemove(5), nil},
		"one that has gone goes":                {m.CheckRemove(99), ErrIDRemoved},
		"one that has gone is promoted":         {m.CheckPromote(99), ErrIDRemoved},
		"one that has gone moves":               {m.CheckUpdate(Member{ID: 99}), ErrIDRemoved},
		"one that was never there moves":        {m.CheckUpdate(Member{ID: 7}), ErrIDNotFound},
		"a learner is promoted":                 {m.CheckPromote(5), nil},
		"as many learners as there may be":      {CheckLearners(m.Members(), 2), nil},
		"more learners than there may be":       {CheckLearners(m.Members(), 1), ErrTooManyLearners},
		"one of two voters goes":                {membershipOf(t, startedA, silentD).CheckRemove(4), nil},
		"a learner where all others are voters": {membershipOf(t, startedA, startedB).CheckAdd(Member{ID: 7, IsLearner: true}, 1), nil},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// TestADamagedMembershipIsNotLoaded: a member that is left out would not be counted when a quorum is.
func TestADamagedMembershipIsNotLoaded(t *testing.T) {
	t.Parallel()
	short := storage.AppendPlainKey(nil, storage.SpaceMembers, []byte("short"))
	for name, c := range map[string]struct {
		key   []byte
		value string
	}{
		"a member that cannot be read":     {memberKey(storage.SpaceMembers, 7), `{"id":7,"name":7}`},
		"a member that is another":         {memberKey(storage.SpaceMembers, 7), `{"id":8}`},
		"a member without its id":          {short, "{}"},
		"a removed one without its id":     {storage.AppendPlainKey(nil, storage.SpaceRemoved, []byte("too many bytes")), ""},
		"a downgrade that cannot be read":  {downgradeKey, "{"},
		"a member before one that is sane": {memberKey(storage.SpaceMembers, 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := storage.OpenState("state", storage.Options{FS: vfs.NewMem()})
			if err != nil {
				t.Fatal(err)
			}
			b := db.NewBatch()
			if err := errors.Join(b.Set(memberKey(storage.SpaceMembers, 5), []byte(`{"id":5}`), nil), db.Commit(b), b.Close()); err != nil {
				t.Fatal(err)
			}
			if m, err := Load(db); err != nil || m.Len() != 1 {
				t.Fatalf("before the damage: %v", err)
			}
			b = db.NewBatch()
			if err := errors.Join(b.Set(c.key, []byte(c.value), nil), db.Commit(b), b.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(db); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
