package member

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func TestWhatIsWrittenIsReadAtItsRevision(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, nil, alone) // the operating system's filesystem
	cfg.DataDir = t.TempDir()
	m := start(t, cfg)
	const writers, writes = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range writes {
				put(t, m, fmt.Sprint("k", w), fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
	for w := range writers {
		if got := get(t, m, fmt.Sprint("k", w)); got != fmt.Sprint(writes-1) {
			t.Errorf("writer %d: read %q, want its last value", w, got)
		}
	}
	if got := m.Status().Revision; got != 1+writers*writes {
		t.Errorf("revision %d after %d writes", got, writers*writes)
	}
	if _, err := m.View(m.Status().Revision + 1); !errors.Is(err, mvcc.ErrFutureRevision) {
		t.Errorf("a view of the future: %v", err)
	}
	stop(t, m)
}

func TestARequestThatIsTooLargeHasNoEffect(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	last := m.Log().LastIndex()
	raw := putRequest(t, "k", strings.Repeat("x", int(m.cfg.MaxRequestBytes)))
	if _, err := m.Propose(t.Context(), apply.CommandPut, raw); !errors.Is(err, ErrRequestTooLarge) {
		t.Errorf("got %v, want ErrRequestTooLarge", err)
	}
	if m.Log().LastIndex() != last || waiting(m) != 0 {
		t.Error("the request is in the log, or waited for")
	}
}

func TestRequestsThatNobodyDecidesTimeOut(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), notAlone)
	cfg.RequestTimeout = 80 * time.Millisecond
	m := open(t, cfg)
	m.Start()
	defer stop(t, m)
	begun := time.Now()
	if _, err := m.Propose(t.Context(), apply.CommandPut, putRequest(t, "k", "v")); !errors.Is(err, ErrTimeout) {
		t.Errorf("a proposal: got %v, want ErrTimeout", err)
	}
	if took := time.Since(begun); took < cfg.RequestTimeout {
		t.Errorf("it timed out after %v already", took)
	}
	if err := m.ReadBarrier(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Errorf("a read: got %v, want ErrTimeout", err)
	}
}

func TestARequestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewMem(), notAlone))
	m.Start()
	defer stop(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Propose(ctx, apply.CommandPut, putRequest(t, "k", "v")); !errors.Is(err, context.Canceled) {
		t.Errorf("a proposal: got %v", err)
	}
	if n := waiting(m); n != 0 {
		t.Errorf("%d waiters are left", n)
	}
	if err := m.ReadBarrier(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a read: got %v", err)
	}
}

func TestStopEndsEverythingThatWaits(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewMem(), notAlone))
	m.Start()
	const each = 10
	ends := make(chan error, 3*each)
	for range each {
		p, err := m.Begin(apply.CommandPut, putRequest(t, "k", "v"))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, err := p.wait(context.Background()); ends <- err }()
		go func() { ends <- m.ReadBarrier(context.Background()) }()
		read := m.node.BeginRead()
		go func() { <-read.Done(); ends <- read.Err() }()
	}
	stop(t, m)
	for range cap(ends) {
		if err := <-ends; !errors.Is(err, ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
	}
	if _, err := m.Propose(t.Context(), apply.CommandPut, nil); !errors.Is(err, ErrStopped) {
		t.Errorf("a later proposal: got %v", err)
	}
	if err := m.ReadBarrier(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("a later read: got %v", err)
	}
	if n := waiting(m); n != 0 {
		t.Errorf("%d waiters are left", n)
	}
}

func TestAfterACleanStopNothingIsReplayed(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, founded(t), alone))
	defer stop(t, m)
	if applied, _ := m.Store().Applied(); applied != m.Log().LastIndex() {
		t.Errorf("entry %d is applied, the log ends at %d", applied, m.Log().LastIndex())
	}
	select {
	case <-m.node.Replayed():
	default:
		t.Error("the member has something to replay")
	}
}

func TestAfterAKillEveryAnsweredWriteIsReplayed(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := start(t, configOf(t, disk, alone))
	for i := range 50 {
		put(t, m, fmt.Sprint("k", i), "v")
	}
	left := disk.CrashClone(vfs.CrashCloneCfg{}) // what was not synced is lost, too
	revision := m.Status().Revision
	stop(t, m)

	m = open(t, configOf(t, left, alone))
	if applied, _ := m.Store().Applied(); applied >= m.Log().LastIndex() {
		t.Fatalf("entry %d is durable in the state, so this tests nothing", applied)
	}
	m.Start()
	<-m.Ready()
	defer stop(t, m)
	for i := range 50 {
		if got := get(t, m, fmt.Sprint("k", i)); got != "v" {
			t.Errorf("k%d is %q", i, got)
		}
	}
	if got := m.Status().Revision; got != revision {
		t.Errorf("revision %d, before the kill %d", got, revision)
	}
}

// waiting counts the waiters.
func waiting(m *Member) (n int) {
	for i := range m.waiters.shards {
		s := &m.waiters.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}
