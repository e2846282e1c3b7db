package proxy

import (
	"container/list"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// owned is a key that the proxy owns, or is about to.
type owned struct {
	key      string // upstream
	revision int64  // of its title
	// answer is that to a read of the key; nil while it is being acquired.
	answer   *etcdserverpb.RangeResponse
	writes   int           // how many are under way
	acquired chan struct{} // closed once it was acquired, or was not
	size     int
	place    *list.Element
}

// estate is what the proxy owns, within the bounds of the cache: what was not asked for longest goes first.
type estate struct {
	keys   map[string]*owned
	recent *list.List // of *owned, the newest in front
	bytes  int
}

func newEstate() estate { return estate{keys: map[string]*owned{}, recent: list.New()} }

// reserve makes a place for a key that is being acquired.
func (s *estate) reserve(key string) *owned {
	e := &owned{key: key, acquired: make(chan struct{})}
	e.place = s.recent.PushFront(e)
	s.keys[key] = e
	return e
}

// has tells whether e is still in its place.
func (s *estate) has(e *owned) bool { return s.keys[e.key] == e }

// keep sets the answer about a key.
func (s *estate) keep(e *owned, answer *etcdserverpb.RangeResponse) {
	e.answer = answer
	s.bytes -= e.size
	e.size = len(e.key) + proto.Size(answer)
	s.bytes += e.size
}

// drop removes a key. It may be called again.
func (s *estate) drop(e *owned) {
	if s.has(e) {
		delete(s.keys, e.key)
		s.recent.Remove(e.place)
		s.bytes -= e.size
	}
}

// surplus returns a key that has to go, nil if there is none.
func (s *estate) surplus() *owned {
	if len(s.keys) <= cacheEntriesMax && s.bytes <= cacheBytesMax {
		return nil
	}
	for p := s.recent.Back(); p != nil; p = p.Prev() {
		if e := p.Value.(*owned); e.answer != nil {
			return e
		}
	}
	return nil
}

func (s *estate) clear() { *s = newEstate() }
