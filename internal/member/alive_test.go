package member

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

func TestAMemberIsAliveAloneAndWithoutALeader(t *testing.T) {
	t.Parallel()
	for name, initial := range map[string]string{"it leads": alone, "nobody leads": notAlone} {
		m := open(t, configOf(t, vfs.NewMem(), initial))
		m.Start()
		if err := m.Alive(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stop(t, m)
		if err := m.Alive(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("%s, stopped: %v", name, err)
		}
	}
}

func TestAMemberIsNotAliveWhenTheConsensusTakesNoTurn(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewMem(), alone)) // not started: nothing takes turns
	defer stop(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Alive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// TestAMemberIsNotAliveWhileItsDiskStandsStill holds a sync of the log and lets time pass.
func TestAMemberIsNotAliveWhileItsDiskStandsStill(t *testing.T) {
	t.Parallel()
	goOn, stuck := make(chan struct{}), make(chan struct{}, 1000)
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			stuck <- struct{}{}
			<-goOn
		}
		return nil
	})}
	cfg := configOf(t, errorfs.Wrap(vfs.NewMem(), toggle), alone)
	m := start(t, cfg)
	toggle.On()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		put(t, m, "a", "v")
	}()
	<-stuck
	for !errors.Is(m.Alive(t.Context()), ErrStalled) {
		<-clock.Real().NewTimer(time.Millisecond).C()
	}
	toggle.Off()
	close(goOn)
	<-wrote
	if err := m.Alive(t.Context()); err != nil && !errors.Is(err, ErrStalled) { // a further sync may be slow by itself
		t.Error(err)
	}
	stop(t, m)
}
