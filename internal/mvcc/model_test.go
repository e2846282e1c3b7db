package mvcc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"
	"strings"
)

// model is what a store must be, in the simplest form: all versions of all keys, for ever. Compaction only moves a
// number.
type model struct {
	keys     map[string][]modelVersion // oldest first
	revision int64
	compact  int64
	index    uint64
	sub      uint32 // of the entry being written
}

type modelVersion struct {
	rev             Revision
	key, value      string
	create, version int64
	lease           int64
	deleted         bool
}

func (v modelVersion) raw() []byte {
	f := fields{key: []byte(v.key)}
	if !v.deleted {
		f.create, f.mod, f.version, f.value, f.lease = v.create, v.rev.Main, v.version, []byte(v.value), v.lease
	}
	return f.append(nil)
}

func (v modelVersion) String() string { return kvText(KV{v.raw()}) }

func newModel() *model {
	return &model{keys: map[string][]modelVersion{}, revision: 1, compact: neverCompacted}
}

func (m *model) clone() *model {
	c := *m
	c.keys = make(map[string][]modelVersion, len(m.keys))
	for k, vs := range m.keys {
		c.keys[k] = slices.Clip(vs) // only ever appended to
	}
	return &c
}

// at returns the live version of key at rev.
func (m *model) at(key string, rev int64) (modelVersion, bool) {
	vs := m.keys[key]
	i := sort.Search(len(vs), func(i int) bool { return vs[i].rev.Main > rev })
	if i == 0 || vs[i-1].deleted {
		return modelVersion{}, false
	}
	return vs[i-1], true
}

// current is the revision that a read in the present entry sees.
func (m *model) current() int64 {
	if m.sub > 0 {
		return m.revision + 1
	}
	return m.revision
}

func (m *model) end() {
	m.revision = m.current()
	m.sub = 0
}

func (m *model) put(key, value string, lease int64) {
	v := modelVersion{
		rev: Revision{m.revision + 1, m.sub}, key: key, value: value, lease: lease,
		create: m.revision + 1, version: 1,
	}
	if old, live := m.at(key, m.current()); live {
		v.create, v.version = old.create, old.version+1
	}
	m.keys[key] = append(m.keys[key], v)
	m.sub++
}

func (m *model) deleteRange(key, end string) (deleted []modelVersion) {
	deleted = m.live(key, end, m.current())
	for _, v := range deleted {
		tomb := modelVersion{rev: Revision{m.revision + 1, m.sub}, key: v.key, deleted: true}
		m.keys[v.key] = append(m.keys[v.key], tomb)
		m.sub++
	}
	return deleted
}

// live returns the live versions of [key, end) at rev, in order.
func (m *model) live(key, end string, rev int64) (out []modelVersion) {
	for k := range m.keys {
		in := k == key
		if end != "" {
			in = k >= key && (end == "\x00" || k < end)
		}
		if v, live := m.at(k, rev); in && live {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b modelVersion) int { return strings.Compare(a.key, b.key) })
	return out
}

// read is what rangeText must print for o at the model's current revision or o.Rev.
func (m *model) read(o RangeOptions) (string, error) {
	rev := m.current()
	if o.Rev > 0 {
		rev = o.Rev
	}
	switch {
	case rev > m.current():
		return "", ErrFutureRevision
	case rev < m.compact:
		return "", ErrCompacted
	}
	all := m.live(string(o.Key), string(o.End), rev)
	count := len(all)
	if o.CountOnly {
		return fmt.Sprintf("count %d", count), nil
	}
	filtered := o.MinMod != 0 || o.MaxMod != 0 || o.MinCreate != 0 || o.MaxCreate != 0
	if o.Order == SortNone && !filtered && o.Limit > 0 && int64(len(all)) > o.Limit {
		all = all[:o.Limit+1]
	}
	all = slices.DeleteFunc(slices.Clone(all), func(v modelVersion) bool {
		return v.rev.Main < o.MinMod || o.MaxMod != 0 && v.rev.Main > o.MaxMod ||
			v.create < o.MinCreate || o.MaxCreate != 0 && v.create > o.MaxCreate
	})
	slices.SortStableFunc(all, func(a, b modelVersion) int {
		if o.Order == SortDescend {
			a, b = b, a
		}
		return compareBy(o.Target, a, b)
	})
	more := o.Limit > 0 && int64(len(all)) > o.Limit
	if more {
		all = all[:o.Limit]
	}
	var b bytes.Buffer
	for _, v := range all {
		if o.KeysOnly {
			v.value = ""
			if o.Target != SortByValue {
				v.lease = 0
			}
		}
		b.WriteString(v.String() + " ")
	}
	fmt.Fprintf(&b, "count %d", count)
	if more {
		b.WriteString(" more")
	}
	return b.String(), nil
}

func compareBy(target SortTarget, a, b modelVersion) int {
	switch target {
	case SortByVersion:
		return cmp.Compare(a.version, b.version)
	case SortByCreate:
		return cmp.Compare(a.create, b.create)
	case SortByMod:
		return cmp.Compare(a.rev.Main, b.rev.Main)
	case SortByValue:
		return strings.Compare(a.value, b.value)
	}
	return strings.Compare(a.key, b.key)
}

func (m *model) scheduleCompact(rev int64) error {
	switch {
	case rev <= m.compact:
		return ErrCompacted
	case rev > m.current():
		return ErrFutureRevision
	}
	m.compact = rev
	return nil
}

// versions returns all versions up to rev that a compaction to the model's compact revision leaves, in order.
func (m *model) versions(rev int64) (out []modelVersion) {
	for _, vs := range m.keys {
		for i, v := range vs {
			gone := i+1 < len(vs) && vs[i+1].rev.Main <= m.compact
			if v.deleted {
				gone = v.rev.Main < m.compact
			}
			if !gone && v.rev.Main <= rev {
				out = append(out, v)
			}
		}
	}
	slices.SortFunc(out, func(a, b modelVersion) int { return compareRevisions(a.rev, b.rev) })
	return out
}

// hash is HashKV by the letter of the description of etcd's files.
func (m *model) hash(rev int64) uint32 {
	left := 0
	for _, v := range m.live("", "\x00", rev) {
		if !m.deletedAt(v.key, rev) {
			left++
		}
	}
	return m.hashIf(left > 0, rev)
}

// deletedAt tells whether a revision deletes a key, be it to put it again.
func (m *model) deletedAt(key string, rev int64) bool {
	return slices.ContainsFunc(m.keys[key], func(v modelVersion) bool { return v.deleted && v.rev.Main == rev })
}

// hashCompaction is the hash that a compaction to rev keeps: the tombstones of rev are as good as live keys.
func (m *model) hashCompaction(rev int64) uint32 {
	left := len(m.live("", "\x00", rev)) > 0
	for _, v := range m.versions(rev) {
		left = left || v.deleted && v.rev.Main == rev
	}
	return m.hashIf(left, rev)
}

func (m *model) hashIf(anyLive bool, rev int64) uint32 {
	sum := []byte("key")
	for _, v := range m.versions(rev) {
		if v.rev.Main <= m.compact {
			newest, live := m.at(v.key, rev)
			if anyLive && (!live || newest.rev != v.rev) || v.deleted {
				continue
			}
		}
		sum = binary.BigEndian.AppendUint64(sum, uint64(v.rev.Main))
		sum = append(sum, '_')
		sum = binary.BigEndian.AppendUint64(sum, uint64(v.rev.Sub))
		if v.deleted {
			sum = append(sum, 't')
		}
		sum = append(sum, v.raw()...)
	}
	return crc32.Checksum(sum, crc32.MakeTable(crc32.Castagnoli))
}

// sameError tells whether err is of the kind that the model wants.
func sameError(err, want error) bool { return errors.Is(err, want) && (want != nil) == (err != nil) }
