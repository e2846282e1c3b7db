package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Table holds the users and roles of one state database. Reading is safe from any goroutine; Begin and what follows
// belongs to apply.
type Table struct {
	observe func([]Event)
	// standing is read without the lock where nothing else is looked at; both change under it.
	standing atomic.Pointer[standing]
	// announced is closed when the change that is being committed is published; nil when there is none.
	announced atomic.Pointer[chan struct{}]

	mu    sync.RWMutex
	users map[string]*account
	roles map[string]*Role
	// grants counts the published changes of roles: what was merged before the last one does not count any more.
	grants uint64
}

// Load reads the users and roles of a state. It wraps storage.ErrCorrupt when a record cannot be read.
func Load(db *storage.DB) (_ *Table, err error) {
	t := &Table{users: make(map[string]*account), roles: make(map[string]*Role)}
	t.standing.Store(&unused)
	lower, upper := storage.SpaceBounds(storage.SpaceAuth)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("read users and roles: %w", err)
	}
	defer func() { err = errors.Join(err, db.Explain("reading users and roles", it.Close())) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, db.Explain("reading users and roles", err)
		}
		if err := t.load(storage.PlainRest(it.Key()), value); err != nil {
			return nil, storage.Corruptf(db.Dir(), "reading users and roles: %w", err)
		}
	}
	return t, db.Explain("reading users and roles", it.Error())
}

// load takes one record; rest is its key without the space.
func (t *Table) load(rest, value []byte) error {
	kind, raw := SplitKey(rest)
	switch name := string(raw); {
	case kind == RecordUser:
		u, err := decodeUser(name, value)
		if err == nil {
			t.users[u.Name] = u
		}
		return err
	case kind == RecordRole:
		r, err := decodeRole(name, value)
		if err == nil {
			t.roles[r.Name] = r
		}
		return err
	case kind == RecordStanding && name == "":
		s, err := decodeStanding(value)
		if err == nil {
			t.standing.Store(&s)
		}
		return err
	}
	return fmt.Errorf("%w: the key %q", storage.ErrCorrupt, rest)
}

// Enabled tells whether authentication is on.
func (t *Table) Enabled() bool { return t.standing.Load().enabled }

// Revision returns the auth revision.
func (t *Table) Revision() uint64 { return t.standing.Load().revision }

// Status returns both, as they are at one moment.
func (t *Table) Status() (enabled bool, revision uint64) {
	s := t.standing.Load()
	return s.enabled, s.revision
}

// Settled is Status once no change is being committed: what a reader sees that has opened its view of the keys before
// is not newer than what it returns. The error is the context's.
func (t *Table) Settled(ctx context.Context) (enabled bool, revision uint64, err error) {
	if published := t.announced.Load(); published != nil {
		select {
		case <-*published:
		case <-ctx.Done():
			return false, 0, ctx.Err()
		}
	}
	enabled, revision = t.Status()
	return enabled, revision, nil
}

// User returns a user.
func (t *Table) User(name string) (User, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if a := t.users[name]; a != nil {
		return a.User, true
	}
	return User{}, false
}

// Login returns what a password is checked against, and the auth revision by which it is. The error is ErrNotEnabled,
// ErrFailed when there is no such user, or ErrNoPasswordUser.
func (t *Table) Login(name string) (hash []byte, revision uint64, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s, a := t.standing.Load(), t.users[name]
	switch {
	case !s.enabled:
		err = ErrNotEnabled
	case a == nil:
		err = ErrFailed
	case a.NoPassword:
		err = ErrNoPasswordUser
	default:
		hash = a.Hash
	}
	return hash, s.revision, err
}

// Role returns a role.
func (t *Table) Role(name string) (Role, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.roles[name]; r != nil {
		return *r, true
	}
	return Role{}, false
}

// Users returns the names of all users, sorted. They are the caller's.
func (t *Table) Users() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Sorted(maps.Keys(t.users))
}

// Roles returns the names of all roles, sorted. They are the caller's.
func (t *Table) Roles() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Sorted(maps.Keys(t.roles))
}

// Judge returns what a subject may do now.
func (t *Table) Judge(s Subject) Judge {
	if !t.Enabled() {
		return Judge{}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.judgeLocked(s, *t.standing.Load())
}

func (t *Table) judgeLocked(s Subject, at standing) Judge {
	j := Judge{enabled: at.enabled, subject: s, revision: at.revision}
	if j.user = t.users[s.User]; j.user == nil {
		return j
	}
	if j.root = j.user.Has(Root); !j.root {
		j.merged = t.mergedLocked(j.user)
	}
	return j
}

// mergedLocked returns what the roles of a user permit. Two readers may find it out at once, and find the same.
func (t *Table) mergedLocked(a *account) *merged {
	if m := a.merged.Load(); m != nil && m.of == t.grants {
		return m
	}
	m := mergeRoles(a.Roles, func(name string) *Role { return t.roles[name] })
	m.of = t.grants
	a.merged.Store(m)
	return m
}

// EventKind says what an Event is.
type EventKind uint8

// What happened.
const (
	// TokenAssigned says that the user logged in and has the token now.
	TokenAssigned EventKind = iota
	// UserChanged says that the password has changed or the user is gone: its tokens end.
	UserChanged
	// Disabled says that authentication was switched off: all tokens end.
	Disabled
)

// Event is something that tokens hang on.
type Event struct {
	Kind        EventKind
	User, Token string
}

// Observe sets who is told of events, group by group in the order of the log, by the goroutine that publishes, right before readers
// see the group: whoever finds the new auth revision finds no token that ended with it. It must be called before the first change; fn must not block and owns what it is given.
func (t *Table) Observe(fn func([]Event)) { t.observe = fn }
