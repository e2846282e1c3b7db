package member

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// takeAll takes all places, and returns what gives one of them back.
func takeAll(places chan struct{}) (free func()) {
	for range cap(places) {
		places <- struct{}{}
	}
	return func() { <-places }
}

// hashesMade is how many hashes the member has made, or begun and given up.
func hashesMade(m *Member) uint64 {
	return m.measures.Hashes.Read().Count + m.measures.RevisionHashes.Read().Count
}

// TestHashesWaitForTheirTurn takes all places of clients, or of other members, and asks for every kind of hash.
func TestHashesWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	put(t, m, "a", "1")
	put(t, m, "a", "2")
	compacted := m.Store().Revision()
	if err := m.proposeCompaction(compacted); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitCompacted(t.Context(), compacted); err != nil {
		t.Fatal(err)
	}
	put(t, m, "a", "3")
	if _, ok := m.Store().KeptHash(compacted); !ok {
		t.Fatal("the compaction has left no hash")
	}
	x := &m.maintenance.hashing
	hashKV := func(rev int64) func(context.Context) error {
		return func(ctx context.Context) error { _, _, _, err := m.HashKV(ctx, rev); return err }
	}
	ofMember := func(rev int64) func(context.Context) error {
		return func(ctx context.Context) error { _, err := m.answerHashKV(ctx, rev); return err }
	}
	cases := map[string]struct {
		ask    func(context.Context) error
		places chan struct{} // for which it waits; nil for none
	}{
		"a client's HashKV":                         {hashKV(0), x.clients},
		"a client's HashKV of an older revision":    {hashKV(compacted + 1), x.clients},
		"a client's Hash":                           {func(ctx context.Context) error { _, _, err := m.Hash(ctx); return err }, x.clients},
		"another member's question":                 {ofMember(0), x.members},
		"this member's own check":                   {func(ctx context.Context) error { _, err := m.hashHere(ctx, 0); return err }, nil},
		"a client's HashKV of a compaction":         {hashKV(compacted), nil},
		"another member's question of a compaction": {ofMember(compacted), nil},
	}
	for name, c := range cases {
		for _, full := range []chan struct{}{x.clients, x.members} {
			free := takeAll(full)
			if full != c.places {
				if err := c.ask(t.Context()); err != nil {
					t.Errorf("%s, which waits for none of these: %v", name, err)
				}
			} else {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				before := hashesMade(m)
				if err := c.ask(ctx); !errors.Is(err, context.Canceled) || hashesMade(m) != before {
					t.Errorf("%s, without a place and no longer wanted: got %v, %d were begun", name, err, hashesMade(m)-before)
				}
				waiting := make(chan error, 1)
				go func() { waiting <- c.ask(t.Context()) }()
				free()
				if err := <-waiting; err != nil {
					t.Errorf("%s, after its turn has come: %v", name, err)
				}
				full <- struct{}{} // which the one that had its turn has given back
			}
			for range cap(full) {
				free()
			}
		}
	}
}

func TestAHashKeepsItsPlaceWhileItIsMadeAndGivesItBack(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	put(t, m, "a", "1")
	places := make(chan struct{}, 1)
	broken := errors.New("broken")
	for range 2 {
		err := m.maintenance.inTurn(t.Context(), places, func() error {
			if len(places) != 1 {
				t.Error("the place was given back before the end")
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 * hashesMax {
		if _, _, _, err := m.HashKV(t.Context(), 99); !errors.Is(err, mvcc.ErrFutureRevision) {
			t.Errorf("of a revision to come: %v", err)
		}
		if _, _, _, err := m.HashKV(cancelled, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("no longer wanted: %v", err)
		}
		if _, _, err := m.Hash(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("a Hash no longer wanted: %v", err)
		}
	}
	if x := &m.maintenance.hashing; len(x.clients)+len(x.members) != 0 {
		t.Errorf("%d places of clients and %d of members are still taken", len(x.clients), len(x.members))
	}
}

// TestStopEndsHashes stops a member while some hashes wait for their turn and one is being made.
func TestStopEndsHashes(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	put(t, m, "a", "1")
	x := &m.maintenance
	takeAll(x.hashing.clients)
	takeAll(x.hashing.members)
	ended := make(chan error)
	making := make(chan struct{})
	for _, ask := range []func() error{
		func() error { _, _, _, err := m.HashKV(context.Background(), 0); return err },
		func() error { _, _, err := m.Hash(context.Background()); return err },
		func() error { _, err := m.answerHashKV(context.Background(), 0); return err },
		func() error {
			return x.walk(context.Background(), func(ctx context.Context, _ *generation) error {
				close(making)
				<-ctx.Done()
				return ctx.Err()
			})
		},
	} {
		go func() { ended <- ask() }()
	}
	<-making
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop() }()
	for range 4 {
		if err := <-ended; !errors.Is(err, ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, _, err := m.Hash(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("a Hash after stop: %v", err)
	}
}
