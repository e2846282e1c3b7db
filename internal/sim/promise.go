package sim

import "go.etcd.io/raft/v3/raftpb"

// promise is what a member has told others that is not true any more once its disk forgets it.
type promise struct {
	term, index uint64 // it has the entries of that term's leader up to here
	voted, vote uint64 // in that term it has voted for this one
}

// promised notes what a member tells others.
func (h *host) promised(m *message) {
	p := &h.promise
	switch term := m.GetTerm(); {
	case m.GetReject(), h.power.failed():
	case m.GetType() == raftpb.MsgAppResp && term > p.term:
		p.term, p.index = term, m.GetIndex()
	case m.GetType() == raftpb.MsgAppResp && term == p.term:
		p.index = max(p.index, m.GetIndex())
	case m.GetType() == raftpb.MsgVoteResp && term >= p.voted:
		p.voted, p.vote = term, m.GetTo()
	case m.GetType() == raftpb.MsgVote && term >= p.voted:
		p.voted, p.vote = term, m.GetFrom()
	}
}

// checkPromise holds at each start.
func (h *host) checkPromise() {
	p, hs, last := h.promise, h.m.Log().HardState(), h.m.Log().LastIndex()
	switch {
	case hs.Term < max(p.term, p.voted):
		h.w.fail("member %d starts at term %d, and has told others of what it did in term %d", h.n, hs.Term, max(p.term, p.voted))
	case hs.Term == p.term && last < p.index:
		h.w.fail("member %d starts with a log that ends at entry %d, and has told that it has those up to %d", h.n, last, p.index)
	case hs.Term == p.voted && hs.Vote != p.vote:
		h.w.fail("member %d starts with a vote for %x in term %d, and has told that it is for %x", h.n, hs.Vote, hs.Term, p.vote)
	}
}
