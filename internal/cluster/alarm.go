package cluster

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// AlarmType is numbered as in etcdserverpb. Numbers without a name here are kept and listed, and have no effect.
type AlarmType int32

// The alarms.
const (
	// AlarmNone is no alarm: it cannot be raised.
	AlarmNone AlarmType = iota
	// AlarmNoSpace says that a member's space is used up.
	AlarmNoSpace
	// AlarmCorrupt says that the members' data differ.
	AlarmCorrupt
)

// String returns the alarm's name in etcdserverpb, or its number.
func (t AlarmType) String() string {
	switch t {
	case AlarmNone:
		return "NONE"
	case AlarmNoSpace:
		return "NOSPACE"
	case AlarmCorrupt:
		return "CORRUPT"
	default:
		return fmt.Sprint(int32(t))
	}
}

// Alarm is one alarm of a member.
type Alarm struct {
	Member ID
	Type   AlarmType
}

func compareAlarms(a, b Alarm) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Member, b.Member))
}

func (x Alarm) key() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(x.Member))
	b = binary.BigEndian.AppendUint32(b, uint32(x.Type))
	return storage.AppendPlainKey(nil, storage.SpaceAlarms, b)
}

// alarmList is in order of type and member, without repeats. It is immutable once published.
type alarmList []Alarm

func (l alarmList) active(t AlarmType) bool {
	// For each entry that is applied, so it does not depend on how many alarms clients have raised.
	_, found := slices.BinarySearchFunc(l, t, func(x Alarm, t AlarmType) int { return cmp.Compare(x.Type, t) })
	return found
}

// Alarms are those of one state database. Reading is safe from any goroutine; Begin and what follows belongs to apply.
// Any client may raise an alarm for any number, so there may be many; they are few in practice.
type Alarms struct{ now atomic.Pointer[alarmList] }

// LoadAlarms reads the alarms of a state. It wraps storage.ErrCorrupt when a record cannot be read.
func LoadAlarms(db *storage.DB) (_ *Alarms, err error) {
	lower, upper := storage.SpaceBounds(storage.SpaceAlarms)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("read the alarms: %w", err)
	}
	defer func() { err = errors.Join(err, db.Explain("reading the alarms", it.Close())) }()
	var list alarmList
	for ok := it.First(); ok; ok = it.Next() {
		rest := storage.PlainRest(it.Key())
		if len(rest) != 8+4 {
			return nil, storage.Corruptf(db.Dir(), "the alarm key %x cannot be read", it.Key())
		}
		list = append(list, Alarm{
			Member: ID(binary.BigEndian.Uint64(rest)), Type: AlarmType(binary.BigEndian.Uint32(rest[8:])),
		})
	}
	slices.SortFunc(list, compareAlarms)
	a := &Alarms{}
	a.now.Store(&list)
	return a, nil
}

// List returns all alarms in order of type and member. They are the caller's.
func (a *Alarms) List() []Alarm { return slices.Clone(*a.now.Load()) }

// Active tells whether any member has an alarm of a type.
func (a *Alarms) Active(t AlarmType) bool { return a.now.Load().active(t) }

// Has tells whether an alarm is raised.
func (a *Alarms) Has(x Alarm) bool {
	_, found := slices.BinarySearchFunc(*a.now.Load(), x, compareAlarms)
	return found
}

// Begin starts a group's change; its records go into b. The change sees itself; readers see it after Publish.
func (a *Alarms) Begin(b *storage.Batch) *AlarmChange {
	return &AlarmChange{a: a, b: b, list: *a.now.Load()}
}

// AlarmChange is what one group of entries does to the alarms. It belongs to one goroutine, and only one may be under way.
type AlarmChange struct {
	a     *Alarms
	b     *storage.Batch
	list  alarmList
	owned bool // list is the change's own
}

// Active tells whether any member has an alarm of a type, as the group sees it.
func (c *AlarmChange) Active(t AlarmType) bool { return c.list.active(t) }

// List returns all alarms in order of type and member, as the group sees them. They are the caller's.
func (c *AlarmChange) List() []Alarm { return slices.Clone(c.list) }

// Activate raises an alarm; one that is raised already stays.
func (c *AlarmChange) Activate(x Alarm) error {
	i, found := slices.BinarySearchFunc(c.list, x, compareAlarms)
	if found {
		return nil
	}
	c.own()
	c.list = slices.Insert(c.list, i, x)
	return c.b.Set(x.key(), nil, nil)
}

// Deactivate lowers an alarm and tells whether it was raised.
func (c *AlarmChange) Deactivate(x Alarm) (was bool, err error) {
	i, found := slices.BinarySearchFunc(c.list, x, compareAlarms)
	if !found {
		return false, nil
	}
	c.own()
	c.list = slices.Delete(c.list, i, i+1)
	return true, c.b.Delete(x.key(), nil)
}

// own makes the list one that may be changed.
func (c *AlarmChange) own() {
	if !c.owned {
		c.list, c.owned = slices.Clone(c.list), true
	}
}

// Publish makes the change visible, after its batch was committed.
func (c *AlarmChange) Publish() {
	if c.owned {
		list := c.list
		c.a.now.Store(&list)
		c.owned = false
	}
}
