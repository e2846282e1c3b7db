package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// ErrInconsistent is wrapped by InitialCheck's error when another member has a different hash.
var ErrInconsistent = errors.New("found data inconsistency with peers")

// corruption compares the members' keys by HashKV, with etcd's rules and words: members of both kinds take part.
type corruption struct {
	m       *Member
	checked int64 // the newest compaction whose hash every member has agreed on; compact loop only
}

// peerHash is what another member says of its keys.
type peerHash struct {
	id   cluster.ID
	urls []string
	hash peer.HashKV
	err  error // no answer
}

// ask asks all other members for their hash at a revision.
func (c *corruption) ask(ctx context.Context, revision int64) []peerHash {
	var all []peerHash
	for _, x := range c.m.Members().Members() {
		if x.ID != c.m.self() {
			all = append(all, peerHash{id: x.ID, urls: x.PeerURLs, err: errors.New("no way to ask")})
		}
	}
	if c.m.others == nil {
		return all
	}
	ctx, cancel := context.WithTimeout(ctx, c.m.cfg.RequestTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			p := &all[i]
			if p.hash, p.err = c.m.others.HashKV(ctx, p.urls, revision); p.err != nil {
				c.m.cfg.Logger.Warn("failed hash kv request", "local-member-id", c.m.self().String(),
					"requested-revision", revision, "remote-peer-id", p.id.String(), "error", p.err)
			}
		})
	}
	wg.Wait()
	return all
}

func (c *corruption) log() *slog.Logger {
	return c.m.cfg.Logger.With("local-member-id", c.m.self().String())
}

// raise raises the CORRUPT alarm for a member, 0 for none in particular, without waiting. One that is known to be wrong itself accuses nobody: who
// differs from it may be right.
func (c *corruption) raise(id cluster.ID) {
	m := c.m
	if m.Trusted() != nil {
		return
	}
	_, end, err := m.maintenance.begin(context.Background())
	if err != nil {
		return
	}
	go func() {
		defer end()
		ctx, cancel := context.WithTimeout(m.maintenance.ctx, m.cfg.RequestTimeout)
		defer cancel()
		if err := m.raiseCorrupt(ctx, id); err != nil {
			m.cfg.Logger.Warn("cannot raise the alarm", "alarm", cluster.AlarmCorrupt.String(), "member", id.String(), "error", err)
		}
	}()
}

// raiseCorrupt raises the CORRUPT alarm for a member, 0 for none in particular.
func (m *Member) raiseCorrupt(ctx context.Context, id cluster.ID) error {
	return m.proposeInternal(ctx, &etcdserverpb.InternalRaftRequest{Alarm: corruptAlarm(id)})
}

// beginCorrupt is raiseCorrupt without the waiting: whether it came to pass is seen in the alarms.
func (m *Member) beginCorrupt(id cluster.ID) error {
	raw, err := proto.Marshal(corruptAlarm(id))
	if err != nil {
		return err
	}
	_, err = m.Begin(apply.CommandAlarm, raw)
	return err
}

func corruptAlarm(id cluster.ID) *etcdserverpb.AlarmRequest {
	return &etcdserverpb.AlarmRequest{
		MemberID: uint64(id), Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: etcdserverpb.AlarmType_CORRUPT,
	}
}

// InitialCheck compares the state as it was found on the disk with the other members', as the gate InitialCorruptCheck asks
// for. It belongs between Open and Start. The error wraps ErrInconsistent when another member has another hash; members that
// cannot be compared are passed over.
func (m *Member) InitialCheck(ctx context.Context) error {
	c := corruption{m: m}
	log := c.log()
	log.Info("starting initial corruption check", "timeout", m.cfg.RequestTimeout)
	h, err := m.hashHere(ctx, 0)
	if err != nil {
		return fmt.Errorf("%s failed to fetch hash (%w)", m.self(), err)
	}
	mismatches := 0
	for _, p := range c.ask(ctx, h.Revision) {
		log := log.With("local-member-revision", h.Revision, "local-member-compact-revision", h.Compact, "local-member-hash", h.Hash,
			"remote-peer-id", p.id.String(), "remote-peer-endpoints", p.urls)
		if p.err != nil {
			tellWhy(log, p.err)
			continue
		}
		log = log.With("remote-peer-revision", p.hash.Header.Revision, "remote-peer-compact-revision", p.hash.CompactRevision,
			"remote-peer-hash", p.hash.Hash)
		switch {
		case p.hash.Hash == h.Hash:
		case p.hash.CompactRevision == h.Compact:
			mismatches++
			log.Warn("found different hash values from remote peer")
		default:
			log.Warn("found different compact revision values from remote peer")
		}
	}
	if mismatches > 0 {
		return fmt.Errorf("%s %w", m.self(), ErrInconsistent)
	}
	log.Info("initial corruption checking passed; no corruption")
	return nil
}

// tellWhy logs why a member could not be compared at the start, where etcd has words for it.
func tellWhy(log *slog.Logger, err error) {
	switch text := err.Error(); {
	case strings.Contains(text, mvcc.ErrFutureRevision.Error()):
		log.Warn("cannot fetch hash from slow remote peer", "error", err)
	case strings.Contains(text, mvcc.ErrCompacted.Error()):
		log.Warn("cannot fetch hash from remote peer; local member is behind", "error", err)
	case errors.Is(err, peer.ErrClusterMismatch) || strings.Contains(text, peer.ErrClusterMismatch.Error()):
		log.Warn("cluster ID mismatch", "error", err)
	}
}

// every calls f, at the leader, that often. Not at all for an interval of 0.
func (c *corruption) every(interval time.Duration, f func(context.Context)) {
	if interval <= 0 {
		return
	}
	ticker := c.m.cfg.Clock.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C():
			if c.m.node.IsLeader() {
				f(c.m.maintenance.ctx)
			}
		case <-c.m.stop:
			return
		}
	}
}

// runPeriodic is --corrupt-check-time.
func (c *corruption) runPeriodic() {
	if c.m.cfg.CorruptCheckTime > 0 {
		c.log().Info("enabled corruption checking", "interval", c.m.cfg.CorruptCheckTime)
	}
	c.every(c.m.cfg.CorruptCheckTime, func(ctx context.Context) {
		if err := c.periodic(ctx); err != nil && ctx.Err() == nil {
			c.m.cfg.Logger.Warn("failed to check hash KV", "error", err)
		}
	})
}

// periodic compares all members at the leader's present revision.
func (c *corruption) periodic(ctx context.Context) error {
	first, err := c.m.hashHere(ctx, 0)
	if err != nil {
		return err
	}
	peers := c.ask(ctx, first.Revision)
	barrier, cancel := context.WithTimeout(ctx, c.m.cfg.RequestTimeout)
	defer cancel()
	if err := c.m.ReadBarrier(barrier); err != nil {
		return err
	}
	second, err := c.m.hashHere(ctx, 0)
	if err != nil {
		return err
	}
	answered := 0
	for _, p := range peers {
		if p.err == nil {
			answered++
		}
	}
	if id, found := c.suspect(first, second, peers); found {
		c.raise(id)
	}
	c.log().Info("finished peer corruption check", "number-of-peers-checked", answered)
	return nil
}

// suspect returns the first member that must be corrupt by two hashes of the leader, one before and one after the others
// were asked at the first one's revision. Each that is found is logged.
func (c *corruption) suspect(first, second mvcc.Hash, peers []peerHash) (id cluster.ID, found bool) {
	log := c.log()
	mismatch := func(x cluster.ID) {
		if !found {
			id, found = x, true
		}
	}
	if second.Hash != first.Hash && second.Revision == first.Revision && second.Compact == first.Compact {
		log.Warn("found hash mismatch", "revision-1", first.Revision, "compact-revision-1", first.Compact, "hash-1", first.Hash,
			"revision-2", second.Revision, "compact-revision-2", second.Compact, "hash-2", second.Hash)
		mismatch(c.m.self())
	}
	for _, p := range peers {
		if p.err != nil {
			continue
		}
		// A member behind the leader cannot have more than it; the leader has read its own after a barrier.
		if p.hash.Header.Revision > second.Revision {
			log.Warn("revision from follower must be less than or equal to leader's",
				"leader-revision", second.Revision, "follower-revision", p.hash.Header.Revision, "follower-peer-id", p.id.String())
			mismatch(p.id)
		}
		if p.hash.CompactRevision > second.Compact {
			log.Warn("compact revision from follower must be less than or equal to leader's",
				"leader-compact-revision", second.Compact, "follower-compact-revision", p.hash.CompactRevision, "follower-peer-id", p.id.String())
			mismatch(p.id)
		}
		if p.hash.CompactRevision == first.Compact && p.hash.Hash != first.Hash {
			log.Warn("same compact revision then hashes must match", "leader-compact-revision", second.Compact, "leader-hash", first.Hash,
				"follower-compact-revision", p.hash.CompactRevision, "follower-hash", p.hash.Hash, "follower-peer-id", p.id.String())
			mismatch(p.id)
		}
	}
	return id, found
}

// runCompact is the gate CompactHashCheck.
func (c *corruption) runCompact() { c.every(c.m.cfg.CompactHashCheckTime, c.compact) }

// compact compares the hashes that compactions made, the newest first, until one was compared with every member.
func (c *corruption) compact(ctx context.Context) {
	log := c.log()
	log.Info("starting compact hash check", "timeout", c.m.cfg.RequestTimeout)
	hashes := slices.DeleteFunc(c.m.Store().CompactHashes(), func(h mvcc.Hash) bool { return h.Revision <= c.checked })
	n := 0
	for _, h := range hashes {
		n++
		peers := c.ask(ctx, h.Revision)
		if len(peers) == 0 || ctx.Err() != nil {
			continue
		}
		suspects, done := c.compare(h, peers)
		for _, id := range suspects {
			c.raise(id)
		}
		if done {
			break
		}
	}
	log.Info("finished compaction hash check", "number-of-hashes-checked", n)
}

// compare returns the members that must be corrupt by a hash of a compaction at the leader and what the others say of the same
// one; 0 is the whole cluster, when no majority agrees. done says that older hashes need no look.
func (c *corruption) compare(h mvcc.Hash, peers []peerHash) (suspects []cluster.ID, done bool) {
	byHash := map[uint32][]cluster.ID{h.Hash: {c.m.self()}}
	compared := 0
	for _, p := range peers {
		reason := ""
		switch {
		case p.err != nil:
			reason = "no response"
		case p.hash.CompactRevision != h.Compact:
			reason = fmt.Sprintf("the peer's CompactRevision %d doesn't match leader's CompactRevision %d", p.hash.CompactRevision, h.Compact)
		}
		if reason != "" {
			c.m.cfg.Logger.Warn("Skipped peer's hash", "number-of-peers", len(peers), "leader-id", c.m.self().String(),
				"peer-id", p.id.String(), "reason", reason)
			continue
		}
		compared++
		byHash[p.hash.Hash] = append(byHash[p.hash.Hash], p.id)
	}
	if len(byHash) == 1 {
		return nil, c.agreed(h, compared, len(peers))
	}
	log := c.m.cfg.Logger.With("leader-id", c.m.self().String(), "leader-revision", h.Revision, "leader-compact-revision", h.Compact,
		"leader-hash", h.Hash)
	quorum := (len(peers)+1)/2 + 1
	majority := false
	for hash, ids := range byHash {
		if len(ids) >= quorum {
			delete(byHash, hash)
			majority = true
			break
		}
	}
	if !majority {
		log.Error("Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0")
		suspects = append(suspects, 0)
	}
	for hash, ids := range byHash {
		for _, id := range ids {
			log.Error("Detected compaction hash mismatch", "peer-id", id.String(), "peer-hash", hash, "quorum-exist", majority)
			if majority {
				suspects = append(suspects, id)
			}
		}
	}
	slices.SortFunc(suspects, cmp.Compare)
	return suspects, true
}

// agreed notes that all who could be compared have the same hash, and says whether that is everyone.
func (c *corruption) agreed(h mvcc.Hash, compared, peers int) bool {
	log := c.m.cfg.Logger.With("number-of-peers-checked", compared, "revision", h.Revision, "compactRevision", h.Compact)
	if compared == peers {
		log.Info("successfully checked hash on whole cluster")
		c.checked = max(c.checked, h.Revision)
		return true
	}
	log.Warn("skipped revision in compaction hash check; was not able to check all peers", "number-of-peers", peers)
	return false
}
