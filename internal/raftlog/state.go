package raftlog

import (
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// errMisuse is wrapped by errors that only a bug of the caller can cause. Nothing was written.
var errMisuse = errors.New("raftlog is used wrongly")

// state is all that a log holds besides its entries.
type state struct {
	initialised bool
	identity    storage.Identity
	hs          HardState
	mark        Mark
	last        uint64 // index of the last entry, also of what is staged
	staged      uint64 // index of the first that is staged; 0 when nothing is, and in an initialised log
}

// begin returns the record that a segment begins with which is born now.
func (s *state) begin(place uint64) record {
	r := record{kind: kindBegin, place: place, bounds: &bounds{s.staged, s.last}}
	if s.initialised {
		id, hs, mark := s.identity, s.hs, s.mark
		r.identity, r.hs, r.mark, r.bounds.First = &id, &hs, &mark, mark.Index+1
	}
	return r
}

// stateOf returns the state that a first record tells of.
func stateOf(r *record) (s state, err error) {
	if r.kind != kindBegin || r.bounds == nil || r.count > 0 ||
		(r.identity == nil) != (r.hs == nil) || (r.identity == nil) != (r.mark == nil) {
		return s, errors.New("it is no beginning of a segment")
	}
	s.last = r.bounds.Last
	if r.identity == nil {
		s.staged = r.bounds.First
		if (s.staged == 0) != (s.last == 0) || s.staged > s.last {
			return s, fmt.Errorf("entries [%d, %d] cannot be staged", s.staged, s.last)
		}
		return s, nil
	}
	s.initialised, s.identity, s.hs, s.mark = true, *r.identity, *r.hs, *r.mark
	if r.bounds.First != s.mark.Index+1 || s.last < s.mark.Index {
		return s, fmt.Errorf("entries [%d, %d] cannot follow the mark %d", r.bounds.First, s.last, s.mark.Index)
	}
	return s, nil
}

// after returns the state that an operation leaves, and an error that wraps errMisuse when it is not possible.
func (s state) after(r *record) (state, error) {
	fields := r.flags()
	has := func(required, allowed byte) bool {
		return fields&required == required && fields&^(required|allowed) == 0
	}
	ok := false
	switch r.kind {
	case kindAppend:
		ok = s.initialised && has(0, hasHardState|hasEntries) && fields != 0 &&
			(r.count == 0 || r.first > s.mark.Index && r.first <= s.last+1)
	case kindMark:
		ok = s.initialised && has(hasMark, 0) && r.mark.Index >= s.mark.Index && r.mark.Index <= s.last
	case kindInstall:
		ok = has(hasHardState|hasMark, hasEntries|hasIdentity) && s.initialised == (r.identity == nil) &&
			(r.count == 0 || r.first == r.mark.Index+1)
	case kindStage:
		ok = !s.initialised && has(0, hasEntries) && (r.count == 0 || s.staged == 0 || r.first >= s.staged && r.first <= s.last+1)
	case kindAdopt:
		ok = !s.initialised && has(hasIdentity|hasHardState|hasMark, 0) && (s.staged == 0 || s.staged == r.mark.Index+1) &&
			r.hs.Commit <= max(s.last, r.mark.Index)
	case kindSeal:
		ok = fields == 0
	}
	if !ok {
		return s, fmt.Errorf("%w: %s in a log %s", errMisuse, r, s)
	}
	return s.do(r), nil
}

// do is after for what is possible.
func (s state) do(r *record) state {
	if r.kind == kindStage {
		switch {
		case r.count == 0:
			s.staged, s.last = 0, 0
		case s.staged == 0:
			s.staged = r.first
		}
	}
	if r.identity != nil {
		s.initialised, s.identity = true, *r.identity
	}
	if r.hs != nil {
		s.hs = *r.hs
	}
	if r.mark != nil {
		s.mark = *r.mark
	}
	if r.kind == kindInstall || r.kind == kindAdopt && s.staged == 0 {
		s.last = s.mark.Index
	}
	if r.kind == kindInstall || r.kind == kindAdopt {
		s.staged = 0
	}
	if r.count > 0 {
		s.last = r.first + r.count - 1
	}
	return s
}

// String says what the log holds, for errors.
func (s state) String() string {
	switch {
	case s.initialised:
		return fmt.Sprintf("with the mark %d and the last entry %d", s.mark.Index, s.last)
	case s.staged > 0:
		return fmt.Sprintf("that is not initialised and has [%d, %d] staged", s.staged, s.last)
	}
	return "that is not initialised"
}

// String says what the operation is, for errors.
func (r *record) String() string {
	name := fmt.Sprintf("a record of kind %d", r.kind)
	if names := [...]string{kindAppend: "an append", kindMark: "a mark", kindInstall: "an installation", kindStage: "staging",
		kindAdopt: "an adoption", kindSeal: "a seal"}; int(r.kind) < len(names) && names[r.kind] != "" {
		name = names[r.kind]
	}
	if r.mark != nil {
		name += fmt.Sprintf(" at the mark %d", r.mark.Index)
	}
	if r.count > 0 {
		name += fmt.Sprintf(" of %d entries from %d", r.count, r.first)
	}
	return name
}

// checkRun checks that entries go up one by one from index.
func checkRun(index uint64, entries []*raftpb.Entry) error {
	for i, e := range entries {
		if e.GetIndex() != index+uint64(i) {
			return fmt.Errorf("%w: entry %d where %d belongs", errMisuse, e.GetIndex(), index+uint64(i))
		}
	}
	return nil
}

// flatten returns what several appends in a row leave: each that goes back overwrites what was before it. The
// result goes up one by one. It is the argument itself in the usual case.
func flatten(entries []*raftpb.Entry) ([]*raftpb.Entry, error) {
	if len(entries) == 0 || checkRun(entries[0].GetIndex(), entries) == nil {
		return entries, nil
	}
	var flat []*raftpb.Entry
	for _, e := range entries {
		at := e.GetIndex()
		if n := len(flat); n > 0 {
			first := flat[0].GetIndex()
			switch {
			case at > first+uint64(n):
				return nil, fmt.Errorf("%w: entry %d follows entry %d", errMisuse, at, first+uint64(n)-1)
			case at < first:
				flat = flat[:0]
			default:
				flat = flat[:at-first]
			}
		}
		flat = append(flat, e)
	}
	return flat, nil
}
