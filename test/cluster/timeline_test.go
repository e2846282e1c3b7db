package cluster

import (
	"fmt"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// event is a change of a key, as a watch tells it.
type event struct {
	revision int64
	key      string
	deleted  bool
	value    string
	version  int64
	create   int64
}

// eventOf is an event as a timeline has it.
func eventOf(x *clientv3.Event) event {
	return event{
		revision: x.Kv.ModRevision, key: string(x.Kv.Key), deleted: x.Type == mvccpb.DELETE,
		value: string(x.Kv.Value), version: x.Kv.Version, create: x.Kv.CreateRevision,
	}
}

// timeline is the changes of keys, in order. It checks each one against those before. It is complete from its first revision on.
type timeline struct {
	events []event
	byKey  map[string][]int // into events
	// forgotten says whether an event of a revision may come without what was before it; nil: none may.
	forgotten func(revision int64) bool
}

func newTimeline() *timeline { return &timeline{byKey: map[string][]int{}} }

// last is the last change of a key; nil when there was none.
func (t *timeline) last(key string) *event {
	if at := t.byKey[key]; len(at) > 0 {
		return &t.events[at[len(at)-1]]
	}
	return nil
}

// add takes the next change. It says what about it cannot be, given those before.
func (t *timeline) add(x *clientv3.Event) error {
	e := eventOf(x)
	last := t.last(e.key)
	if n := len(t.events); n > 0 && t.events[n-1].revision > e.revision {
		return fmt.Errorf("%+v came after %+v", e, t.events[n-1])
	}
	if last != nil && last.revision >= e.revision {
		return fmt.Errorf("%+v came twice, or after %+v", e, *last)
	}
	if last != nil && last.deleted {
		last = nil
	}
	switch before := x.PrevKv; {
	case before == nil && t.forgotten != nil && t.forgotten(e.revision):
	case last == nil && before != nil:
		return fmt.Errorf("%+v comes with %+v before it, where nothing was", e, before)
	case last != nil && (before == nil || string(before.Value) != last.value || before.ModRevision != last.revision || before.Version != last.version):
		return fmt.Errorf("%+v comes with %+v before it, where %+v was", e, before, *last)
	}
	switch {
	case e.deleted && last == nil:
		return fmt.Errorf("%+v deletes what was not there", e)
	case !e.deleted && last == nil && (e.version != 1 || e.create != e.revision):
		return fmt.Errorf("%+v is new", e)
	case !e.deleted && last != nil && (e.version != last.version+1 || e.create != last.create):
		return fmt.Errorf("%+v follows %+v", e, *last)
	}
	t.adopt([]event{e})
	return nil
}

// adopt takes the next changes as they are.
func (t *timeline) adopt(events []event) {
	for _, e := range events {
		t.byKey[e.key] = append(t.byKey[e.key], len(t.events))
		t.events = append(t.events, e)
	}
}

// between returns the changes from one revision to another, with both.
func (t *timeline) between(from, to int64) []event {
	first := sort.Search(len(t.events), func(i int) bool { return t.events[i].revision >= from })
	end := sort.Search(len(t.events), func(i int) bool { return t.events[i].revision > to })
	return t.events[first:max(first, end)]
}

// at is what a key held at a revision.
func (t *timeline) at(key string, revision int64) register {
	at := t.byKey[key]
	i := sort.Search(len(at), func(i int) bool { return t.events[at[i]].revision > revision })
	if i == 0 || t.events[at[i-1]].deleted {
		return register{}
	}
	e := t.events[at[i-1]]
	return register{value: e.value, version: e.version, mod: e.revision}
}

// values are all that ever were written.
func (t *timeline) values() map[string]bool {
	out := map[string]bool{}
	for _, e := range t.events {
		if !e.deleted {
			out[e.value] = true
		}
	}
	return out
}

// difference says where two timelines part; empty when they do not.
func (t *timeline) difference(o *timeline) string {
	for i := range max(len(t.events), len(o.events)) {
		switch {
		case i >= len(t.events):
			return fmt.Sprintf("%+v is missing", o.events[i])
		case i >= len(o.events):
			return fmt.Sprintf("%+v is too much", t.events[i])
		case t.events[i] != o.events[i]:
			return fmt.Sprintf("%+v instead of %+v", t.events[i], o.events[i])
		}
	}
	return ""
}
