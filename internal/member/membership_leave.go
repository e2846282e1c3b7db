package member

import (
	"errors"
	"sync"
)

// ErrRemoved is wrapped by Open's error when the member was removed from its cluster,
// which is for good: it can only be added anew, with an empty data directory.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster")

// departure tells that this member was removed from its cluster.
type departure struct {
	once sync.Once
	gone chan struct{}
}

func (d *departure) init() { d.gone = make(chan struct{}) }

// notice looks whether a generation's membership says so.
func (d *departure) notice(m *Member, g *generation) {
	if g.members.IsRemoved(m.self()) {
		d.depart(m)
	}
}

// depart also ends the reads, as in etcd, for as long as the member is left running: clients go on elsewhere.
func (d *departure) depart(m *Member) {
	d.once.Do(func() {
		close(d.gone)
		m.node.EndReads()
	})
}

// ToldRemoved says that another member of the cluster has said so: this one, which is behind, may never learn it from the
// log.
func (m *Member) ToldRemoved() { m.departure.depart(m) }

// Removed is closed once this member knows that it was removed from the cluster. Whoever
// runs it should stop it soon, but not at once: the others may yet have to learn from it
// that its removal is decided.
func (m *Member) Removed() <-chan struct{} { return m.departure.gone }
