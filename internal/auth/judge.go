package auth

// Subject is who asks: a user, and the auth revision by which its token or certificate was checked. The zero Subject is
// someone who showed neither.
type Subject struct {
	User     string
	Revision uint64
}

// Judge answers what one subject may do, at one moment. The zero Judge allows everything: it is that of a state without
// authentication. It is immutable and safe for concurrent use.
type Judge struct {
	enabled  bool
	subject  Subject
	revision uint64
	user     *account // nil when there is none of the name
	root     bool
	merged   *merged
}

// Enabled tells whether authentication is on; when not, everything is allowed.
func (j *Judge) Enabled() bool { return j.enabled }

// Revision returns the auth revision by which it decides, 0 while authentication is off.
func (j *Judge) Revision() uint64 { return j.revision }

// Authenticated returns ErrUserEmpty when nobody is known to ask.
func (j *Judge) Authenticated() error {
	if j.enabled && j.subject.User == "" {
		return ErrUserEmpty
	}
	return nil
}

// Admin returns why the subject may not do what only root may: ErrUserEmpty, ErrUserNotFound when the user is gone, or
// ErrPermissionDenied. As in etcd the auth revision has no say.
func (j *Judge) Admin() error {
	if err := j.Authenticated(); err != nil {
		return err
	}
	switch {
	case !j.enabled || j.root:
		return nil
	case j.user == nil:
		return ErrUserNotFound
	}
	return ErrPermissionDenied
}

// Read returns why the subject may not read a range of keys: ErrUserEmpty, ErrOldRevision or ErrPermissionDenied. An empty
// end names the one key, one of the byte 0 alone all keys from key on.
func (j *Judge) Read(key, end []byte) error {
	return j.decide(key, end, func(m *merged) *permitted { return &m.read })
}

// Write is Read for writing and deleting.
func (j *Judge) Write(key, end []byte) error {
	return j.decide(key, end, func(m *merged) *permitted { return &m.write })
}

// ReadableUntil returns the end of the permitted range that holds a key, nil for one that has no end. REQUIRES: the
// subject may read the key.
func (j *Judge) ReadableUntil(key []byte) []byte {
	return j.until(key, func(m *merged) *permitted { return &m.read })
}

// WritableUntil is ReadableUntil for writing.
func (j *Judge) WritableUntil(key []byte) []byte {
	return j.until(key, func(m *merged) *permitted { return &m.write })
}

func (j *Judge) until(key []byte, of func(*merged) *permitted) []byte {
	if !j.enabled || j.root {
		return nil
	}
	r := of(j.merged).ranges
	return r[r.at(key)].end
}

func (j *Judge) decide(key, end []byte, of func(*merged) *permitted) error {
	switch {
	case !j.enabled:
		return nil
	case j.subject.Revision == 0:
		return ErrUserEmpty
	case j.subject.Revision < j.revision:
		return ErrOldRevision
	case j.user == nil:
		return ErrPermissionDenied
	case j.root:
		return nil
	}
	if of(j.merged).allows(key, end) {
		return nil
	}
	return ErrPermissionDenied
}

// MayAskForUser returns why the subject may not be told of a user: it may of itself, and root of all.
func (j *Judge) MayAskForUser(name string) error {
	if err := j.Admin(); err != nil && name != j.subject.User {
		return err
	}
	return nil
}

// MayAskForRole returns why the subject may not be told of a role: it may of its own, and root of all.
func (j *Judge) MayAskForRole(name string) error {
	err := j.Admin()
	if err != nil && j.user != nil && j.user.Has(name) {
		return nil
	}
	return err
}
