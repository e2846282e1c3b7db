package member

import (
	"context"
	"errors"
	"io"

	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

// source returns a voter that the state can be had from: one of a majority that has one hash, the leader if it is of it.
func (c *comparison) source(ctx context.Context) (heard, error) {
	all := c.ask(ctx, ^uint64(0))
	var index uint64
	for i := range all {
		if p := all[i].chain.Point; all[i].comparable() && p != nil && (index == 0 || p.Index < index) {
			index = p.Index
		}
	}
	groups := map[peer.Point][]heard{}
	for _, x := range c.ask(ctx, index) {
		if p := x.chain.Point; x.comparable() && p != nil && p.Index == index {
			groups[*p] = append(groups[*p], x)
		}
	}
	quorum := len(c.m.Members().Voters())/2 + 1
	for _, group := range groups {
		if len(group) < quorum {
			continue
		}
		for _, x := range group {
			if uint64(x.id) == c.m.node.Leader() {
				return x, nil
			}
		}
		return group[0], nil
	}
	return heard{}, errNoMajority
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
