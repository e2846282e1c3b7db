package member

import (
	"context"
	"errors"
	"fmt"
)

// ErrStalled is returned by Alive when a write to the log has been under way for longer than an election timeout.
var ErrStalled = errors.New("member: the disk of the log stands still")

// Alive returns nil when the consensus takes its turns and the disk of the log does not stand still: that this member does its
// part, whether or not it knows a leader or others are there. Errors are ErrStalled, ErrStopped, and the context's when
// the consensus takes no turn in time.
func (m *Member) Alive(ctx context.Context) error {
	if m.node.SyncStalled() {
		return ErrStalled
	}
	_, err := m.progress(ctx, m.ID())
	switch {
	case errors.Is(err, ErrNotLeader):
		return nil // it was told so at a turn
	case ctx.Err() != nil:
		return fmt.Errorf("the consensus takes no turn: %w", err)
	}
	return err
}
