package apply

import (
	"runtime"

	"go.etcd.io/raft/v3/raftpb"
)

// aheadEntriesMin is how many entries a group must have for looking into them beforehand to be worth it.
const aheadEntriesMin = 8

// readAhead tells the writer the keys of the group's plain puts, so that it reads them in parallel with applying the
// first ones. An entry that cannot be parsed is met again when its turn comes.
func (g *group) readAhead(entries []*raftpb.Entry, wanted func(uint64) bool) error {
	if len(entries) < aheadEntriesMin || runtime.GOMAXPROCS(0) == 1 {
		return nil
	}
	for _, e := range entries {
		if len(e.GetData()) == 0 {
			continue
		}
		header, cmd, raw, err := Decode(e.GetData())
		if err != nil || cmd != CommandPut {
			continue
		}
		if p, err := ParsePut(raw); err == nil && len(p.Key) > 0 {
			g.w.Expect(p.Key, p.IgnoreValue || p.IgnoreLease || p.PrevKV && wanted(header.ID))
		}
	}
	return g.w.ReadAhead()
}
