package cluster

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

var (
	// ErrIDRemoved is returned for a change of a member that was removed before.
	ErrIDRemoved = errors.New("membership: ID removed")
	// ErrIDExists is returned when a member is added whose id is taken.
	ErrIDExists = errors.New("membership: ID exists")
	// ErrIDNotFound is returned when there is no such member.
	ErrIDNotFound = errors.New("membership: ID not found")
	// ErrPeerURLExists is returned when another member has one of the peer URLs.
	ErrPeerURLExists = errors.New("membership: peerURL exists")
	// ErrNotLearner is returned when a voter is to be promoted.
	ErrNotLearner = errors.New("membership: can only promote a learner member")
	// ErrTooManyLearners is returned when a learner is added to as many as there may be.
	ErrTooManyLearners = errors.New("membership: too many learner members in cluster")
	// ErrLastVoter is returned when the only voter is to be removed: nobody could decide anything after that.
	ErrLastVoter = errors.New("membership: the only voter cannot be removed")
)

// view is one state of a membership. It is immutable.
type view struct {
	members map[ID]Member
	removed map[ID]bool
	version string

	downgrade Downgrade
}

// Membership is the membership of one state database. Reading is safe from any
// goroutine; Begin and what follows belongs to apply.
type Membership struct{ now atomic.Pointer[view] }

var versionKey = storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("clusterVersion"))

func memberKey(space byte, id ID) []byte {
	return storage.AppendPlainKey(nil, space, binary.BigEndian.AppendUint64(nil, uint64(id)))
}

// Load reads the membership of a state. It wraps storage.ErrCorrupt when a record
// cannot be read.
func Load(db *storage.DB) (*Membership, error) {
	v := &view{members: make(map[ID]Member), removed: make(map[ID]bool)}
	err := each(db, storage.SpaceMembers, func(id ID, value []byte) error {
		var m Member
		if err := json.Unmarshal(value, &m); err != nil {
			return storage.Corruptf(db.Dir(), "the record of member %s cannot be read: %w", id, err)
		}
		if m.ID != id {
			return storage.Corruptf(db.Dir(), "the record of member %s is that of %s", id, m.ID)
		}
		v.members[id] = m
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(db, storage.SpaceRemoved, func(id ID, _ []byte) error {
		v.removed[id] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := db.Get(versionKey, func(b []byte) error { v.version = string(b); return nil }); err != nil {
		return nil, fmt.Errorf("read the cluster version: %w", err)
	}
	if v.downgrade, err = loadDowngrade(db); err != nil {
		return nil, err
	}
	m := &Membership{}
	m.now.Store(v)
	return m, nil
}

// each calls fn for every record of a space that is keyed by member.
func each(db *storage.DB, space byte, fn func(id ID, value []byte) error) (err error) {
	lower, upper := storage.SpaceBounds(space)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read the members: %w", err)
	}
	defer func() { err = errors.Join(err, db.Explain("reading the members", it.Close())) }()
	for ok := it.First(); ok; ok = it.Next() {
		rest := storage.PlainRest(it.Key())
		if len(rest) != 8 {
			return storage.Corruptf(db.Dir(), "the member key %x cannot be read", it.Key())
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return db.Explain("reading the members", err)
		}
		if err := fn(ID(binary.BigEndian.Uint64(rest)), value); err != nil {
			return err
		}
	}
	return nil
}

// Members returns all members, sorted by id. They are the caller's.
func (m *Membership) Members() []Member {
	v := m.now.Load()
	out := make([]Member, 0, len(v.members))
	for _, id := range slices.Sorted(maps.Keys(v.members)) {
		out = append(out, v.members[id].clone())
	}
	return out
}

// Len returns the number of members.
func (m *Membership) Len() int { return len(m.now.Load().members) }

// Member returns one member.
func (m *Membership) Member(id ID) (Member, bool) {
	x, ok := m.now.Load().members[id]
	return x.clone(), ok
}

// IsRemoved says whether a member of that id was removed from the cluster.
func (m *Membership) IsRemoved(id ID) bool { return m.now.Load().removed[id] }

// Version returns the cluster version, such as "3.7.0", or "" when none is set yet.
func (m *Membership) Version() string { return m.now.Load().version }

// Begin starts a change whose records go into b. The change sees itself; readers see
// it after Publish.
func (m *Membership) Begin(b *storage.Batch) *Change {
	v := m.now.Load()
	return &Change{m: m, b: b, v: view{maps.Clone(v.members), maps.Clone(v.removed), v.version, v.downgrade}}
}

// BeginUnnamed is Begin for a change that is not to be published. Its records have no names of members that have not told
// theirs: founding members may each have been told another name for one of them, and all else of a change is the same everywhere.
func (m *Membership) BeginUnnamed(b *storage.Batch) *Change {
	c := m.Begin(b)
	c.unnamed = true
	return c
}

// Change is a change under way. It belongs to one goroutine, and only one may be
// under way.
type Change struct {
	m       *Membership
	b       *storage.Batch
	v       view
	unnamed bool
}

// Publish shows the change to readers. REQUIRES: its batch is committed.
func (c *Change) Publish() {
	v := c.v
	c.m.now.Store(&v)
}

// CheckAdd says whether a member may be added to a cluster that may have learnersMax
// learners: ErrIDRemoved, ErrIDExists, ErrPeerURLExists, ErrTooManyLearners.
func (m *Membership) CheckAdd(x Member, learnersMax int) error {
	v := m.now.Load()
	switch {
	case v.removed[x.ID]:
		return ErrIDRemoved
	case v.has(x.ID):
		return ErrIDExists
	}
	if err := v.peerURLsFree(x); err != nil {
		return err
	}
	if x.IsLearner && len(v.members)-v.voters() >= learnersMax {
		return ErrTooManyLearners
	}
	return nil
}

// CheckLearners returns ErrTooManyLearners if more members than most are learners, as a member asks that starts with another limit than
// the learners were added with.
func CheckLearners(members []Member, most int) error {
	for i := range members {
		if members[i].IsLearner {
			most--
		}
	}
	if most < 0 {
		return ErrTooManyLearners
	}
	return nil
}

// CheckPromote says whether a learner may be made a voter: ErrIDRemoved, ErrIDNotFound,
// ErrNotLearner.
func (m *Membership) CheckPromote(id ID) error {
	v := m.now.Load()
	if err := v.known(id); err != nil {
		return err
	}
	if !v.members[id].IsLearner {
		return ErrNotLearner
	}
	return nil
}

// CheckRemove says whether a member may be removed: ErrIDRemoved, ErrIDNotFound, or
// ErrLastVoter, where members of etcd crash.
func (m *Membership) CheckRemove(id ID) error {
	v := m.now.Load()
	if err := v.known(id); err != nil {
		return err
	}
	if !v.members[id].IsLearner && v.voters() == 1 {
		return ErrLastVoter
	}
	return nil
}

// CheckUpdate says whether a member may get x's peer URLs: ErrIDRemoved, ErrIDNotFound,
// ErrPeerURLExists.
func (m *Membership) CheckUpdate(x Member) error {
	v := m.now.Load()
	if err := v.known(x.ID); err != nil {
		return err
	}
	return v.peerURLsFree(x)
}

func (v *view) has(id ID) bool { _, ok := v.members[id]; return ok }

// known returns why a member that is to be changed is not there.
func (v *view) known(id ID) error {
	switch {
	case v.removed[id]:
		return ErrIDRemoved
	case !v.has(id):
		return ErrIDNotFound
	}
	return nil
}

// voters counts the members that are no learners.
func (v *view) voters() (n int) {
	for _, x := range v.members {
		if !x.IsLearner {
			n++
		}
	}
	return n
}

func (v *view) peerURLsFree(x Member) error {
	for id, other := range v.members {
		if id == x.ID {
			continue
		}
		for _, u := range x.PeerURLs {
			if slices.Contains(other.PeerURLs, u) {
				return ErrPeerURLExists
			}
		}
	}
	return nil
}

// Add adds or replaces a member.
func (c *Change) Add(x Member) error { return c.set(x.clone()) }

// Promote makes a voter of a learner.
func (c *Change) Promote(id ID) error {
	x := c.v.members[id]
	x.IsLearner = false
	return c.set(x)
}

// UpdatePeerURLs gives a member other peer URLs.
func (c *Change) UpdatePeerURLs(id ID, urls []string) error {
	x := c.v.members[id]
	x.PeerURLs = slices.Clone(urls)
	return c.set(x)
}

// SetAttributes gives a member its name and client URLs. A member that is not there
// is left alone, as in etcd.
func (c *Change) SetAttributes(id ID, name string, clientURLs []string) error {
	x, ok := c.v.members[id]
	if !ok {
		return nil
	}
	x.Name, x.ClientURLs = name, slices.Clone(clientURLs)
	return c.set(x)
}

func (c *Change) set(x Member) error {
	c.v.members[x.ID] = x
	if c.unnamed && len(x.ClientURLs) == 0 { // it tells both together
		x.Name = ""
	}
	value, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("encode member %s: %w", x.ID, err)
	}
	return c.b.Set(memberKey(storage.SpaceMembers, x.ID), value, nil)
}

// Remove removes a member; its id can never come back.
func (c *Change) Remove(id ID) error {
	delete(c.v.members, id)
	c.v.removed[id] = true
	return errors.Join(
		c.b.Delete(memberKey(storage.SpaceMembers, id), nil),
		c.b.Set(memberKey(storage.SpaceRemoved, id), nil, nil),
	)
}

// SetVersion sets the cluster version.
func (c *Change) SetVersion(version string) error {
	c.v.version = version
	return c.b.Set(versionKey, []byte(version), nil)
}
