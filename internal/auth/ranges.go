package auth

import (
	"bytes"
	"slices"
)

// span is a half-open range of keys; a nil end is behind all keys.
type span struct{ begin, end []byte }

// ranges are spans in order that neither overlap nor touch.
type ranges []span

// merge returns the union of spans, which it sorts.
func merge(spans []span) ranges {
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.begin, b.begin) })
	var out ranges
	for _, s := range spans {
		if n := len(out); n > 0 && !below(out[n-1].end, s.begin) {
			if below(out[n-1].end, s.end) {
				out[n-1].end = s.end
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// below tells whether one end is below another end, or a begin; nil is above all.
func below(end, other []byte) bool {
	return end != nil && (other == nil || bytes.Compare(end, other) < 0)
}

// has tells whether one key is in r.
func (r ranges) has(key []byte) bool {
	i := r.at(key)
	return i >= 0 && below(key, r[i].end)
}

// at returns which span begins last at or before a key, -1 when none does.
func (r ranges) at(key []byte) int {
	i, found := slices.BinarySearchFunc(r, key, func(x span, key []byte) int { return bytes.Compare(x.begin, key) })
	if !found {
		i--
	}
	return i
}

// holds tells whether all keys of the span are in r. One that is empty is where its begin is.
func (r ranges) holds(s span) bool {
	i := r.at(s.begin)
	return i >= 0 && below(s.begin, r[i].end) && !below(r[i].end, s.end)
}

// spanOf is the span that a key and a range's end name, in requests and in permissions.
func spanOf(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{key, append(slices.Clip(key), 0)}
	case len(end) == 1 && end[0] == 0:
		return span{key, nil}
	}
	return span{key, end}
}

// permitted is what one kind of permission allows.
type permitted struct {
	given  []span // in the order of roles and permissions
	ranges ranges // the same, merged
}

// allows tells whether a key, or a range of keys when there is an end, is permitted.
func (p *permitted) allows(key, end []byte) bool {
	if len(end) == 0 {
		return p.ranges.has(key)
	}
	s := spanOf(key, end)
	if s.end != nil && bytes.Compare(s.end, s.begin) < 0 {
		return holdsBackwards(p.given, s)
	}
	return p.ranges.holds(s)
}

// merged is what the roles of a user permit together.
type merged struct {
	of          uint64 // the table's grants when it was made
	read, write permitted
}

// mergeRoles merges the permissions of a user's roles. As in etcd a role that is not there permits nothing, and so does a
// permission without a key, which is in no log that etcd wrote.
func mergeRoles(names []string, role func(name string) *Role) *merged {
	m := &merged{}
	for _, name := range names {
		r := role(name)
		if r == nil {
			continue
		}
		for _, p := range r.Permissions {
			if len(p.Key) == 0 {
				continue
			}
			s := spanOf(p.Key, p.End)
			if p.Kind == Read || p.Kind == ReadWrite {
				m.read.given = append(m.read.given, s)
			}
			if p.Kind == Write || p.Kind == ReadWrite {
				m.write.given = append(m.write.given, s)
			}
		}
	}
	for _, p := range []*permitted{&m.read, &m.write} {
		p.ranges = merge(slices.Clone(p.given))
	}
	return m
}

// validRange tells whether a permission may name the range.
func validRange(key, end []byte) bool {
	s := spanOf(key, end)
	return len(key) > 0 && below(s.begin, s.end)
}
