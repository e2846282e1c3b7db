package peer

import (
	"errors"
	"testing"
	"time"
)

func TestSnapshotsAreCountedByTheirEnd(t *testing.T) {
	t.Parallel()
	m := newMeasures(7)
	now := time.Unix(1, 0)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	failed := errors.New("no")
	for _, want := range []error{nil, failed, nil} {
		got := m.SnapshotsSent.run(clock, func() error {
			if n := m.SnapshotsSent.Running.Load(); n != 1 {
				t.Errorf("%d run, want 1", n)
			}
			return want
		})
		if !errors.Is(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	s := &m.SnapshotsSent
	if r := s.Took.Read(); s.Succeeded.Value() != 2 || s.Failed.Value() != 1 || s.Running.Load() != 0 || r.Count != 2 || r.Sum != int64(2*time.Second) {
		t.Errorf("%d succeeded, %d failed, %d run, %+v", s.Succeeded.Value(), s.Failed.Value(), s.Running.Load(), r)
	}
}
