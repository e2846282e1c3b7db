package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

const (
	largeValueBytes = 64 << 10
	// keysPerWriter are the keys that a client writes again and again.
	keysPerWriter = 8
	// largeRoundBytes are acknowledged in each round before the server is killed. Five rounds take more than the 5,000 entries
	// that the log would keep if their number were its only bound.
	largeRoundBytes = 72 << 20
	// largeLogMax is what a log may have: the 32 MiB kept below what the state has on the disk, 64 MiB that it has not yet, and a segment of 32 MiB
	// at either end, which is in part something else.
	largeLogMax = 160 << 20
)

// TestKilledUnderLargeWritesLosesNothingAndKeepsTheLogShort kills a server with SIGKILL at random moments while clients write values of 64 KiB, starts it
// again and compares each key with what its writer had been told, and the size of the log with its bound.
func TestKilledUnderLargeWritesLosesNothingAndKeepsTheLogShort(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd's log has another bound")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Logf("again: go test ./test/e2e -run %s -seed %d", t.Name(), seed)
	random := rand.New(rand.NewPCG(uint64(seed), 2))
	m := newMember(t)
	writers := make([]*largeWriter, killWriters)
	for i := range writers {
		writers[i] = &largeWriter{name: i}
	}
	s, longest := m.start(t), int64(0)
	for round := range max(*killRounds/4, 2) {
		writeLarge(t, m, writers, func() {
			wait(t.Context(), time.Duration(random.IntN(200))*time.Millisecond)
			s.Kill()
		})
		killed := logBytes(t, m)
		s = m.start(t)
		longest = max(longest, killed, logBytes(t, m))
		c := m.connect(t)
		for _, w := range writers {
			w.check(t, c)
		}
		noError(t, c.Close())
		if longest > largeLogMax {
			t.Errorf("the log has %d bytes, want %d at the most", longest, largeLogMax)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	s.stop(t)
	t.Logf("the log had %d MiB at the most", longest>>20)
}

// writeLarge lets the clients write, calls kill once they have been told of largeRoundBytes, and waits for them.
func writeLarge(t *testing.T, m *member, writers []*largeWriter, kill func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wholeTest)
	defer cancel()
	var acknowledged atomic.Int64
	enough := make(chan struct{})
	var clients sync.WaitGroup
	for _, w := range writers {
		c := m.connect(t)
		clients.Go(func() {
			for w.write(ctx, c) == nil {
				if acknowledged.Add(largeValueBytes) == largeRoundBytes {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Error("the writes are not acknowledged")
	}
	kill()
	cancel()
	clients.Wait()
}

// largeWriter is a client that writes its keys in turn, one request at a time. Each value follows from its number.
type largeWriter struct {
	name  int
	next  uint64                // number of the newest value that was sent
	acked [keysPerWriter]uint64 // number of the newest value of each key that was acknowledged
	sent  [keysPerWriter]uint64
}

func (w *largeWriter) key(i int) string { return fmt.Sprintf("large/%d/%d", w.name, i) }

// value returns the n-th value: its number, and what follows from it and does not compress.
func (w *largeWriter) value(n uint64) string {
	b := make([]byte, 0, largeValueBytes)
	random := rand.NewPCG(uint64(w.name), n)
	for b = binary.BigEndian.AppendUint64(b, n); len(b) < largeValueBytes; {
		b = binary.BigEndian.AppendUint64(b, random.Uint64())
	}
	return string(b)
}

func (w *largeWriter) write(ctx context.Context, c *clientv3.Client) error {
	w.next++
	i := int(w.next % keysPerWriter)
	w.sent[i] = w.next
	if _, err := c.Put(ctx, w.key(i), w.value(w.next)); err != nil {
		return err
	}
	w.acked[i] = w.next
	return nil
}

// check compares the writer's keys with what it was told: each has the newest acknowledged value, or one that was sent after it.
func (w *largeWriter) check(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for i := range keysPerWriter {
		answer, err := c.Get(within(t, process.Patience), w.key(i))
		noError(t, err)
		var n uint64
		if len(answer.Kvs) == 1 {
			value := string(answer.Kvs[0].Value)
			n = binary.BigEndian.Uint64([]byte(value))
			if value != w.value(n) {
				t.Errorf("%s has a value that nobody wrote, number %d", w.key(i), n)
			}
		}
		if n < w.acked[i] || n > w.sent[i] {
			t.Errorf("%s has the value %d, acknowledged was %d, sent %d", w.key(i), n, w.acked[i], w.sent[i])
		}
		w.acked[i], w.sent[i] = n, n // another one must not come later either
	}
}

// logBytes returns the size of the segments of the log.
func logBytes(t *testing.T, m *member) (size int64) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(m.dataDir, "ashlar", "log", "*.seg"))
	noError(t, err)
	if len(segments) == 0 {
		t.Fatal("there is no log")
	}
	for _, name := range segments {
		info, err := os.Stat(name)
		if os.IsNotExist(err) {
			continue // it was cut off meanwhile
		}
		noError(t, err)
		size += info.Size()
	}
	return size
}
