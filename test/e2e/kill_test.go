package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var killRounds = flag.Int("kill-rounds", 20, "how often the kill test kills a server")

// killWriters is the number of clients that write at a time.
const killWriters = 6

// mark is a state seen after a restart; reading at its revision must show it for ever.
type mark struct {
	revision int64
	digest   string
}

// TestKilledUnderWriteLoadLosesNothing kills a server with SIGKILL at a random moment of a write load, starts it again and
// compares the store with what the clients had been told. In some rounds the server is killed again while it recovers.
//
// The seed fixes keys, values and moments, but the machine decides what the server was doing at such a moment:
// a failure may need several runs to come back.
func TestKilledUnderWriteLoadLosesNothing(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Logf("again: go test ./test/e2e -run %s -seed %d", t.Name(), seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	m, l := newMember(t), newLedger()
	var marks []mark

	s := m.start(t)
	for round := range *killRounds {
		writeUntil(t, s.Kill, m, l, round, random)
		if random.IntN(4) == 0 {
			s = m.launch(t)
			wait(t.Context(), time.Duration(random.IntN(150))*time.Millisecond)
			s.Kill()
		}
		s = m.start(t)
		marks = checkAfterRestart(t, m, l, marks, random)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	s.stop(t)
	t.Logf("%d rounds, %d acknowledged writes, revision %d", *killRounds, l.writes, l.highest)
}

// TestStoppedUnderWriteLoadLosesNothing is the same with SIGTERM: the server ends well, whatever the clients are doing.
func TestStoppedUnderWriteLoadLosesNothing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(uint64(*seedFlag), 1))
	m, l := newMember(t), newLedger()
	var marks []mark
	for round := range 3 {
		s := m.start(t)
		writeUntil(t, func() { s.stop(t) }, m, l, round, random)
		s = m.start(t)
		marks = checkAfterRestart(t, m, l, marks, random)
		s.stop(t)
	}
}

// writeUntil lets clients write, ends the server at a random moment after the first answers, and waits for the clients.
func writeUntil(t *testing.T, end func(), m *member, l *ledger, round int, random *rand.Rand) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
	defer cancel()
	l.setEnding(false)
	var clients sync.WaitGroup
	answered := make(chan struct{}, killWriters+1)
	for i := range killWriters {
		w := &killWriter{c: m.connect(t), l: l, name: i, round: round, random: rand.New(rand.NewPCG(random.Uint64(), uint64(i)))}
		clients.Go(func() { w.run(ctx, answered) })
	}
	reader := m.connect(t)
	clients.Go(func() { readPairs(ctx, reader, l, answered) })

	for range killWriters + 1 {
		<-answered
	}
	wait(ctx, time.Duration(random.IntN(200))*time.Millisecond)
	l.setEnding(true)
	end()
	cancel()
	clients.Wait()
}

// wait lets a random time pass: the moment of a kill is the one thing here that must not follow from what the server does.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// readPairs reads both keys of the pair at one revision again and again. It must never see half a transaction, nor
// a revision older than one already shown to anybody.
func readPairs(ctx context.Context, c *clientv3.Client, l *ledger, answered chan<- struct{}) {
	first := sync.OnceFunc(func() { answered <- struct{}{} })
	defer first()
	for {
		seen := l.revisionSeen()
		answer, err := c.Get(ctx, "pair/", clientv3.WithPrefix())
		if err != nil {
			l.failed(err)
			return
		}
		l.read(seen, answer.Header.Revision)
		if n := len(answer.Kvs); n == 1 || n == 2 && torn(answer.Kvs[0], answer.Kvs[1]) {
			l.mu.Lock()
			l.faultLocked("a reader saw half a transaction at revision %d: %v", answer.Header.Revision, answer.Kvs)
			l.mu.Unlock()
		}
		first()
	}
}

// checkAfterRestart compares the restarted store with the ledger, and what it says of older revisions with the marks.
func checkAfterRestart(t *testing.T, m *member, l *ledger, marks []mark, random *rand.Rand) []mark {
	t.Helper()
	c := m.connect(t)
	defer c.Close()
	answer, err := c.Get(within(t, process.Patience), "", clientv3.WithPrefix())
	noError(t, err)
	l.check(answer.Header.Revision, answer.Kvs)
	if len(marks) > 0 {
		for _, old := range []mark{marks[len(marks)-1], marks[random.IntN(len(marks))]} {
			then, err := c.Get(within(t, process.Patience), "", clientv3.WithPrefix(), clientv3.WithRev(old.revision))
			noError(t, err)
			if digest(then.Kvs) != old.digest {
				t.Errorf("the store at revision %d is not what it was when that was the newest", old.revision)
			}
		}
	}
	for _, fault := range l.faults {
		t.Error(fault)
	}
	return append(marks, mark{revision: answer.Header.Revision, digest: digest(answer.Kvs)})
}
