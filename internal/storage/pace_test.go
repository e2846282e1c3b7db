package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestRestsEndBeforeTheRoomTheyDelayIsNeeded(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		sublevels int32
		debt      uint64
		memTables int64
		want      restParts
	}{
		"nothing is behind":                   {0, 0, 1, restParts{1, 1}},
		"a compaction is due, a flush runs":   {4, 100 << 20, 2, restParts{1, 1}},
		"the newest level grows":              {7, 100 << 20, 2, restParts{0.75, 1}},
		"it is deep":                          {10, 100 << 20, 2, restParts{0.5, 1}},
		"it is too deep":                      {16, 100 << 20, 1, restParts{0, 1}},
		"writes would stop soon":              {63, 100 << 20, 1, restParts{0, 1}},
		"much is to be rewritten":             {1, 5 << 30, 1, restParts{0, 1}},
		"a memtable waits behind the flush":   {1, 0, 3, restParts{1, 0}},
		"writes would stop at once otherwise": {1, 0, 4, restParts{1, 0}},
	}
	for name, x := range cases {
		if got := restPartsOf(x.sublevels, x.debt, x.memTables); got != x.want {
			t.Errorf("%s: got %v, want %v", name, got, x.want)
		}
	}
}

// workingClock moves by a stint with each look at it. Its timers fire at once, or never.
type workingClock struct {
	*clock.Manual
	never atomic.Bool

	mu    sync.Mutex
	rests []time.Duration
}

func newWorkingClock() *workingClock {
	return &workingClock{Manual: clock.NewManual(time.Unix(1_700_000_000, 0))}
}

func (c *workingClock) Now() time.Time {
	c.Advance(pacing.StintMax)
	return c.Manual.Now()
}

func (c *workingClock) NewTimer(d time.Duration) clock.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rests = append(c.rests, d)
	timer := c.Manual.NewTimer(d)
	if !c.never.Load() {
		c.Advance(d)
	}
	return timer
}

func (c *workingClock) took() (rests []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rests, c.rests = c.rests, nil
	return rests
}

// fill writes some KiB.
func fill(t *testing.T, db *DB, round, keys int) {
	t.Helper()
	value := make([]byte, 1000)
	for i := range keys {
		set(t, db, AppendDataKey(nil, fmt.Appendf(nil, "key-%04d", i), int64(round), 0), string(value))
	}
}

// requests are what clients ask for; each look finds more of them while they come.
type requests struct {
	come bool
	n    atomic.Uint64
}

func (r *requests) asked() uint64 {
	if r.come {
		r.n.Add(1)
	}
	return r.n.Load()
}

// openPaced opens a state that has a table, and a memtable with more that has room yet: Pebble begins with small ones.
func openPaced(t *testing.T, c *workingClock, r *requests) *DB {
	t.Helper()
	db := openTestState(t, vfs.NewMem(), Options{Clock: c, Asked: r.asked})
	fill(t, db, 1, 2000)
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	fill(t, db, 2, 500)
	c.took()
	c.Advance(lookEvery)
	return db
}

func TestFlushesAndCompactionsRestWhileClientsAsk(t *testing.T) {
	t.Parallel()
	for name, come := range map[string]bool{"clients ask": true, "nobody asks": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newWorkingClock()
			db := openPaced(t, c, &requests{come: come})
			defer closeState(t, db)
			c.Advance(pacing.QuietFor)
			check := func(what string) {
				t.Helper()
				rests := c.took()
				if (len(rests) > 0) != come {
					t.Errorf("a %s rests %d times", what, len(rests))
				}
				for _, d := range rests {
					if d <= 0 || d > pacing.RestMax {
						t.Errorf("a %s rests %s, want %s at most", what, d, pacing.RestMax)
					}
				}
			}
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
			check("flush")
			if err := db.CompactAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			check("compaction")
		})
	}
}

func closeState(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestAFlushDoesNotRestBesideWhichAMemTableFillsSoon(t *testing.T) {
	t.Parallel()
	const memTable = 32 << 20
	for name, x := range map[string]struct {
		put    uint64
		within time.Duration
		want   bool
	}{
		"nothing is put":                {0, 0, false},
		"it just began":                 {memTable/hurriedPart - 1, time.Millisecond, false},
		"large values":                  {memTable / hurriedPart, 20 * time.Millisecond, true},
		"a memtable in half a second":   {memTable / 4, calmFill / 4, false},
		"in a little less":              {memTable / 4, calmFill/4 - time.Millisecond, true},
		"small values, 16 MiB a second": {8 << 20, 500 * time.Millisecond, false},
		"much was put, but not lately":  {memTable, time.Second, false},
	} {
		if got := fillsSoon(x.put, memTable, x.within); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAFlushIsToldWhatIsPutBesideIt(t *testing.T) {
	t.Parallel()
	c := newWorkingClock()
	db := openPaced(t, c, &requests{come: true})
	defer closeState(t, db)
	if put := db.pacer.put.Load(); put < 2500*1000 {
		t.Errorf("%d bytes were put", put)
	}
	if f := db.pacer.flush.Load(); f == nil || f.put < 2000*1000 || f.at.After(c.Manual.Now()) || f.bytes < f.put || f.written.Load() != allWritten {
		t.Errorf("the newest flush is %+v", f)
	}
	rests := func(category vfs.DiskWriteCategory, beside int) int {
		t.Helper()
		f, err := vfs.NewMem().Create("000001.sst", category)
		if err != nil {
			t.Fatal(err)
		}
		w := db.pacer.wrap(f, category)
		db.pacer.flushBegins(8 << 20)
		db.pacer.committed(beside)
		for range 4 {
			if _, err := w.Write([]byte("a block")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if written := db.pacer.flush.Load().written.Load(); (written == uint64(4*len("a block"))) != (category == flushCategory) {
			t.Errorf("%d bytes count as written by the flush beside a file of %q", written, category)
		}
		return len(c.took())
	}
	for name, x := range map[string]struct {
		category vfs.DiskWriteCategory
		beside   int
		rests    bool
	}{
		"a flush beside which little is put": {flushCategory, 1 << 20, true},
		"a flush beside which much is put":   {flushCategory, 8 << 20, false},
		"a compaction":                       {compactionCategory, 8 << 20, true},
	} {
		if n := rests(x.category, x.beside); (n > 0) != x.rests {
			t.Errorf("%s rests %d times", name, n)
		}
	}
}

func TestWhatIsPutBesideAFlushTakesTheRoomAsTheFlushGoesOn(t *testing.T) {
	t.Parallel()
	const memTable, bytes = 32 << 20, 60 << 20
	for name, x := range map[string]struct {
		before, beside int
		want           uint64
	}{
		"nothing is put":                         {bytes, 0, 0},
		"all room is taken and nothing is put":   {4 * memTable, 0, 0},
		"the first quarter":                      {bytes, 17 << 20, 0},
		"a half of what is behind it":            {bytes, 17<<20 + 51<<19, bytes / 2},
		"all of it":                              {bytes, 68 << 20, bytes},
		"more than there is":                     {bytes, 100 << 20, bytes},
		"an open memtable had some of the room":  {bytes + 8<<20, 15 << 20, 0},
		"it had, and all of the rest is taken":   {bytes + 8<<20, 60 << 20, bytes},
		"there was no room":                      {4 * memTable, 1, bytes},
		"batches have less bytes than memtables": {bytes / 2, 68 << 20, bytes},
		"what was flushed before takes no room":  {bytes + 500<<20, 17 << 20, 0},
	} {
		p := newPacer(clock.NewManual(time.Unix(1_700_000_000, 0)), func() uint64 { return 0 }, memTable)
		if before := x.before - 500<<20; before > 0 {
			p.committed(500 << 20)
			p.flushBegins(500 << 20)
			x.before = before
		}
		p.committed(x.before)
		p.flushBegins(bytes)
		p.committed(x.beside)
		if got := p.flush.Load().needs(p.put.Load()); got != x.want {
			t.Errorf("%s: %d bytes must have been written, want %d", name, got, x.want)
		}
	}
}

func TestABatchWaitsForTheFlushBesideIt(t *testing.T) {
	t.Parallel()
	const memTable, need = 32 << 20, 16 << 20
	for name, goOn := range map[string]func(p *pacer, c *clock.Manual){
		"until it has written enough":     func(p *pacer, _ *clock.Manual) { p.flushWrote(need - 1); p.flushWrote(1) },
		"until it has ended":              func(p *pacer, _ *clock.Manual) { p.flushEnds() },
		"not for long":                    func(_ *pacer, c *clock.Manual) { c.Advance(admitMax) },
		"not when the database is closed": func(p *pacer, _ *clock.Manual) { p.end() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clock.NewManual(time.Unix(1_700_000_000, 0))
			p := newPacer(c, func() uint64 { return 0 }, memTable)
			p.committed(memTable)
			p.flushBegins(memTable)
			p.admit()                    // would wait for ever
			p.committed(24<<20 + 36<<20) // a quarter of the room, and a half of the rest
			c.Advance(2 * time.Second)
			if p.isFlushHurried() {
				t.Error("the flush does not rest, and nobody waits")
			}
			admitted := make(chan struct{})
			go func() { p.admit(); close(admitted) }()
			c.WaitPending(1)
			if !p.isFlushHurried() {
				t.Error("the flush rests while a batch waits for it")
			}
			goOn(p, c)
			<-admitted
		})
	}
}

func TestABatchIsCommittedOnceTheFlushBesideItHasEnded(t *testing.T) {
	t.Parallel()
	c := newWorkingClock()
	db := openPaced(t, c, &requests{come: true})
	defer closeState(t, db)
	c.never.Store(true)
	db.pacer.flushBegins(1)
	db.pacer.committed(stopMemTables * stateMemTableBytes)
	committed := make(chan struct{})
	go func() { fill(t, db, 3, 1); close(committed) }()
	c.WaitPending(1)
	select {
	case <-committed:
		t.Error("the batch did not wait")
	default:
	}
	db.pacer.flushEnds()
	<-committed
	c.never.Store(false)
	c.took()
	fill(t, db, 3, 1)
	if waits := c.took(); len(waits) > 0 {
		t.Errorf("a batch waits %s for a flush that has ended", waits)
	}
}

func TestNothingRestsAnyMoreWhenTheDatabaseIsClosed(t *testing.T) {
	t.Parallel()
	c := newWorkingClock()
	db := openPaced(t, c, &requests{come: true})
	c.never.Store(true)
	flushed, err := db.beginFlush()
	if err != nil {
		t.Fatal(err)
	}
	c.WaitPending(1) // the flush rests, and by this clock it would for ever
	closeState(t, db)
	<-flushed
}

// heldFS holds the first write of a compaction back, and counts all of them.
type heldFS struct {
	vfs.FS
	once        sync.Once
	begun, goOn chan struct{}
	written     atomic.Int64
}

func (f *heldFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err == nil && c == compactionCategory {
		file = &heldFile{file, f}
	}
	return file, err
}

type heldFile struct {
	vfs.File
	fs *heldFS
}

func (f *heldFile) Write(b []byte) (int, error) {
	f.fs.once.Do(func() {
		close(f.fs.begun)
		<-f.fs.goOn
	})
	f.fs.written.Add(1)
	return f.File.Write(b)
}

// Pebble waits for compactions when it is closed, and that of a defragmentation takes as long as it takes to write the whole state.
func TestACompactionEndsWhenTheDatabaseIsClosed(t *testing.T) {
	t.Parallel()
	fs := &heldFS{FS: vfs.NewMem(), begun: make(chan struct{}), goOn: make(chan struct{})}
	options := Options{Asked: func() uint64 { return 0 }}
	db := openTestState(t, fs, options)
	const keys = 2000
	for round := 1; round <= 2; round++ {
		fill(t, db, round, keys)
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	compacted := make(chan error, 1)
	go func() { compacted <- db.CompactAll(ctx) }()
	<-fs.begun
	cancel()
	if err := <-compacted; !errors.Is(err, context.Canceled) {
		t.Errorf("the compaction: %v", err)
	}
	set(t, db, AppendDataKey(nil, []byte("in memory"), 1, 0), "value")
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	<-db.pacer.cut
	close(fs.goOn)
	if err := <-closed; err != nil {
		t.Errorf("closing: %v", err)
	}
	if n := fs.written.Load(); n > 3 { // of some sixty
		t.Errorf("the compaction wrote %d times, want only what was under way", n)
	}
	db = openTestState(t, fs, options)
	defer closeState(t, db)
	for i := range keys {
		for round := 1; round <= 2; round++ {
			if got := get(t, db, AppendDataKey(nil, fmt.Appendf(nil, "key-%04d", i), int64(round), 0)); len(got) != 1000 {
				t.Fatalf("key %d of round %d has %d bytes", i, round, len(got))
			}
		}
	}
	if got := get(t, db, AppendDataKey(nil, []byte("in memory"), 1, 0)); got != "value" {
		t.Errorf("what was in memory is %q", got)
	}
}

func TestOneRestsAfterTheRemovalOfATableWhileClientsAsk(t *testing.T) {
	t.Parallel()
	var requests atomic.Uint64
	for name, x := range map[string]struct {
		file  string
		asked func() uint64
		rests int
	}{
		"a table":                {"000001.sst", func() uint64 { return requests.Add(1) }, 1},
		"where nothing is paced": {"000001.sst", nil, 0},
		"what is small":          {"MANIFEST-000001", func() uint64 { return requests.Add(1) }, 0},
		"while nobody asks":      {"000001.sst", func() uint64 { return 0 }, 0},
	} {
		c, fs := newWorkingClock(), vfs.NewMem()
		f, err := fs.Create(x.file, vfs.WriteCategoryUnspecified)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		p := newPacer(c, x.asked, 32<<20)
		c.Advance(2 * pacing.QuietFor)
		err = newFence(fs, newFailure("", nil), p).Remove(x.file)
		if _, gone := fs.Stat(x.file); err != nil || gone == nil {
			t.Errorf("%s: %v, and looking for it then: %v", name, err, gone)
		}
		if rests := c.took(); len(rests) != x.rests {
			t.Errorf("%s: rests %v, want %d", name, rests, x.rests)
		}
	}
}
