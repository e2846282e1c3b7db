package member

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

// source returns a voter that the state can be had from: one of a majority that has one hash, the leader if it is of it.
func (c *comparison) source(ctx context.Context) (heard, error) {
	quorum := len(c.m.Members().Voters())/2 + 1
	var reached []uint64
	for _, x := range c.ask(ctx, ^uint64(0)) {
		if p := x.chain.Point; x.comparable() && p != nil {
			reached = append(reached, p.Index)
		}
	}
	slices.Sort(reached)
	slices.Reverse(reached)
	// The newest entry that enough have reached comes first: where one that is far behind is, the others may remember nothing any more. But
	// it may be needed, when one of those is wrong.
	for i := quorum - 1; i < len(reached); i++ {
		if i >= quorum && reached[i] == reached[i-1] {
			continue
		}
		if x, ok := c.agreeing(ctx, reached[i], quorum); ok {
			return x, nil
		}
	}
	return heard{}, errNoMajority
}

// agreeing returns a voter of those that have one hash after an entry, the leader if it is of them, if they are so many.
func (c *comparison) agreeing(ctx context.Context, index uint64, quorum int) (_ heard, ok bool) {
	groups := map[peer.Point][]heard{}
	for _, x := range c.ask(ctx, index) {
		if p := x.chain.Point; x.comparable() && p != nil && p.Index == index {
			groups[*p] = append(groups[*p], x)
		}
	}
	for _, group := range groups {
		if len(group) < quorum {
			continue
		}
		for _, x := range group {
			if uint64(x.id) == c.m.node.Leader() {
				return x, true
			}
		}
		return group[0], true
	}
	return heard{}, false
}

// answerState opens the state for a member that rebuilds its own.
func (m *Member) answerState() (state io.ReadCloser, err error) {
	if err := m.givable(); err != nil {
		return nil, err
	}
	select {
	case m.states <- struct{}{}:
	default:
		return nil, ErrSnapshotBusy
	}
	err = m.held(func(g *generation) error {
		r, err := snapshot.NewReader(g.db)
		if err != nil {
			return err
		}
		if err := g.store.Hold(); err != nil {
			return errors.Join(err, r.Close())
		}
		state = &sentState{m.paced(r), func() { g.store.Release(); <-m.states }}
		return nil
	})
	if err != nil {
		<-m.states
	}
	return state, err
}

// sentState is a state on its way to a member that rebuilds its own.
type sentState struct {
	*pacedState
	release func()
}

func (s *sentState) Close() error {
	defer s.release()
	return s.Reader.Close()
}
