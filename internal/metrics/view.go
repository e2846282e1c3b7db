package metrics

import (
	"context"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// progressTimeout bounds how long a scrape waits for what only the raft loop knows.
const progressTimeout = time.Second

// Sources are what the metrics are read off. All are required.
type Sources struct {
	Member *member.Member
	Calls  *rpc.Measures
	// Peers returns what is counted of the other members.
	Peers func() []*peer.Measures
	// HealthPassed and HealthFailed count answers of /health.
	HealthPassed, HealthFailed *measure.Counter
	// EachCheck tells of each check of /livez and /readyz that was made how often it passed and failed, and what came of it last.
	EachCheck func(f func(kind, name string, passed, failed uint64, healthy bool))
	// Gates are the feature gates.
	Gates []Gate
	// Quota is the size in bytes at which the state refuses to grow.
	Quota int64
	// Version is the release of etcd that the member speaks for.
	Version string
}

// Gate is a feature gate: Stage is ALPHA or BETA.
type Gate struct {
	Name, Stage string
	On          bool
}

// view is a member at one scrape.
type view struct {
	*Sources
	status  member.Status
	counts  *member.Measures
	node    *consensus.Measures
	watch   watch.Stats
	state   storage.Metrics
	log     raftlog.Metrics
	keys    mvcc.Stats
	members []cluster.Member
	peers   []*peer.Measures
	lags    []lag // empty at a follower
}

// lag is how many entries of the leader's log a member is not known to have.
type lag struct {
	id      uint64
	entries uint64
}

func (s *Sources) look() *view {
	m := s.Member
	v := &view{Sources: s, status: m.Status(), counts: m.Measures(), node: m.Node().Measures(), watch: m.Hub().Stats(),
		log: m.Log().Metrics(), members: m.Members().Members(), peers: s.Peers()}
	v.state, v.keys = m.StateStats()
	v.lags = s.follow(v.members)
	return v
}

// follow asks how far the others are, if this member is the leader.
func (s *Sources) follow(members []cluster.Member) (out []lag) {
	if !s.Member.Node().IsLeader() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), progressTimeout)
	defer cancel()
	for _, x := range members {
		id := uint64(x.ID)
		if id == s.Member.ID() {
			continue
		}
		p, err := s.Member.Progress(ctx, id)
		if err != nil {
			return nil // it has ceased to lead
		}
		if p.Known {
			out = append(out, lag{id, p.LeaderMatch - min(p.Match, p.LeaderMatch)})
		}
	}
	return out
}
