package member

import (
	"cmp"
	"maps"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

const (
	// absentBytesMin is how much of the log may always be kept for members that are away: a snapshot has costs of its own.
	absentBytesMin = 4 << 20
	// absentBytesMax is how much at most: so much more a start has to read.
	absentBytesMax = 512 << 20
)

// absentLog is how much of the log is kept for members that are away: as much as there is of the state, since above that a snapshot costs
// less.
func absentLog(stateBytes uint64) uint64 { return min(max(stateBytes, absentBytesMin), absentBytesMax) }

// absent knows above which entry each other member needs the log. It matters for those that are away or behind, which get the log in place of
// a snapshot while it is the shorter way (docs/format/log.md).
type absent struct {
	needs map[cluster.ID]uint64
}

// look brings it up to date. A leader knows by raft what others have. A follower may have to lead next, and takes those that it is connected
// with to have what it has itself, but for what is kept for anybody. Who was not connected yet may need all that there is.
func (a *absent) look(m *Member) {
	before := a.needs
	a.needs = make(map[cluster.ID]uint64)
	for _, x := range m.Members().Members() {
		if x.ID == m.self() || x.Name == "" { // one without a name was added and never started
			continue
		}
		need, known := before[x.ID]
		if match, ok := m.node.Match(uint64(x.ID)); ok {
			need = match
		} else if !m.activeSince(x.ID).IsZero() {
			need = m.catchUp(m.node.Applied())
		} else if !known {
			need = m.log.Mark().Index
		}
		a.needs[x.ID] = need
	}
}

// above returns above which entry, to at the most, the log is to be kept: the lowest that anybody needs it above, unless it is cut off above
// that already or too large from there on. Those who are left out need nothing.
func (a *absent) above(to, mark uint64, tooLarge func(from uint64) bool, leaveOut func(cluster.ID) bool) uint64 {
	ids := slices.SortedFunc(maps.Keys(a.needs), func(x, y cluster.ID) int { return cmp.Compare(a.needs[x], a.needs[y]) })
	for _, id := range ids {
		if need := a.needs[id]; need >= to {
			break
		} else if need >= mark && !leaveOut(id) && !tooLarge(need+1) {
			return need
		}
	}
	return to
}
