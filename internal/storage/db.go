package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/cockroachdb/pebble/v2"
)

// DB is an open state, or the log of an earlier release for reading alone. It is safe for concurrent use. See the package for its guarantees.
type DB struct {
	dir      string
	ro       bool
	p        *pebble.DB
	lock     databaseLock
	failure  *failure
	stall    *stallWatch
	clock    clock.Clock
	measures *Measures
	cache    *blockCache
	fence    *fence
	pacer    *pacer // may be nil
	spare    *spareMemTable
	history  *historyMover // may be nil

	stop    chan struct{}  // ends the goroutine that calls OnFlush
	workers sync.WaitGroup // that goroutine
	wedged  bool           // set with failure raised: Pebble panicked holding its commit lock
	wedgeMu sync.Mutex     // guards wedged
}

// OpenState opens the state in dir, which it creates if need be.
//
// It returns an error that wraps ErrLocked or ErrCorrupt and names the directory when another process has it, or
// a checksum or a file is wrong; then nothing was changed but what Pebble's own recovery does.
func OpenState(dir string, o Options) (*DB, error) {
	o = o.withDefaults(stateCacheBytes, stateMemTableBytes)
	if o.ReadOnly {
		if _, err := o.FS.Stat(dir); err != nil {
			return nil, fmt.Errorf("open %s read-only: %w", dir, err)
		}
	} else if err := MakeDirs(o.FS, dir); err != nil {
		return nil, err
	}
	lock, err := lockDatabase(o.FS, dir)
	if err != nil {
		return nil, err
	}
	p, history := stateOptions(o), newHistoryMover()
	p.Experimental.SpanPolicyFunc = history.tableEnds
	db, abandoned, err := openLocked(dir, o, p, history, lock)
	switch {
	case abandoned:
		return nil, errors.Join(err, lock.abandon())
	case err != nil:
		return nil, errors.Join(err, lock.Close())
	}
	return db, nil
}

// openLocked opens a database whose lock is held. When it fails, abandoned says whether a Pebble that will never run again has
// its part in the lock. history may be nil.
func openLocked(dir string, o Options, p *pebble.Options, history *historyMover, lock databaseLock) (_ *DB, abandoned bool, err error) {
	f := newFailure(dir, o.Fatal)
	db := &DB{
		dir: dir, ro: o.ReadOnly, lock: lock, failure: f,
		stall: &stallWatch{clock: o.Clock, max: o.StallMax, failure: f},
		stop:  make(chan struct{}),
		clock: o.Clock, measures: o.Measures, cache: newBlockCache(o.CacheBytes, o.Clock),
	}
	var flushed chan struct{}
	if o.OnFlush != nil {
		flushed = make(chan struct{}, 1)
	}
	db.history = history
	db.pacer = newPacer(o.Clock, o.Asked, o.MemTableBytes)
	db.spare = &spareMemTable{clock: o.Clock, give: giveBackKept}
	db.fence = newFence(o.FS, f, db.pacer)
	p.FS, p.Cache = db.fence, db.cache.cache
	p.Lock = lock.Lock
	if db.pacer != nil {
		p.Experimental.CompactionScheduler = &compactionScheduler{pacer: db.pacer}
	}
	p.Logger = logger{o.Logger, f}
	ended := func(tables []pebble.TableInfo) {
		db.pacer.flushEnds()
		db.spare.flushed()
		history.flushed(tables)
	}
	p.EventListener = listener(o.Logger, f, db.stall, o.Measures, db.pacer.flushBegins, ended, flushed)
	if db.p, err = openUnlessFailed(dir, p, f); err != nil {
		err = explain(dir, "opening the database", err)
		if f.check() != nil {
			return nil, true, err
		}
		db.cache.close()
		return nil, false, err
	}
	db.pacer.begin(db.p)
	db.spare.begin(db.p)
	if history != nil && !o.ReadOnly {
		history.begin(db.p, f, db.setWedged)
	}
	if flushed != nil {
		db.workers.Add(1)
		go db.tellFlushes(flushed, o.OnFlush)
	}
	return db, false, nil
}

// openUnlessFailed opens the database. When a write fails behind Pebble's back while it does (a flush of what it
// replayed), it would try again for ever: then the attempt is abandoned. Its goroutines stay where they reported the
// failure, and nothing of it writes any more.
func openUnlessFailed(dir string, p *pebble.Options, f *failure) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		db, err := openPebble(dir, p)
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, r.err
		}
		return r.db, f.opened()
	case <-f.done:
		return nil, f.check()
	}
}

// openPebble turns panics of Pebble into errors. It panics with the error when it can not write, and somewhere in the
// runtime on some damaged files.
func openPebble(dir string, p *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			db, err = nil, Corruptf(dir, "%w", r)
		case error:
			db, err = nil, r
		default:
			db, err = nil, Corruptf(dir, "%v", r)
		}
	}()
	return pebble.Open(dir, p)
}

func (db *DB) tellFlushes(flushed <-chan struct{}, call func()) {
	defer db.workers.Done()
	for {
		select {
		case <-flushed:
			// Both may be ready; a failed flush is never told.
			if db.failure.check() == nil {
				call()
			}
		case <-db.stop:
			return
		}
	}
}

// Dir returns the directory the database is in.
func (db *DB) Dir() string { return db.dir }

// Err returns nil as long as the database works, and after its first failure an error that wraps ErrFailed.
func (db *DB) Err() error { return db.failure.check() }

// Explain adds the directory and what was being done to an error of an Iterator or a Batch, and turns corruption
// into ErrCorrupt. nil stays nil.
func (db *DB) Explain(doing string, err error) error { return explain(db.dir, doing, err) }

// NewBatch returns an empty batch, to be committed by Commit or closed.
func (db *DB) NewBatch() *Batch { return db.p.NewBatch() }

// Commit applies the batch: it is visible, and may be lost in a crash until it is flushed. The batch is not closed. After an
// error nothing is known about the batch but that it was not acknowledged, and the DB is failed.
func (db *DB) Commit(b *Batch) error {
	if err := db.failure.check(); err != nil {
		return err
	}
	began := db.clock.Now()
	db.pacer.admit()
	err := db.guard("committing a batch", func() error { return db.p.Apply(b, pebble.NoSync) })
	db.measures.Commits.Took(db.clock.Now().Sub(began))
	db.pacer.committed(b.Len())
	return err
}

// guard runs a write. Pebble reports a failed sync by Fatalf and then returns nil, and panics when
// a write to its log fails; both end as an error here and fail the DB.
func (db *DB) guard(doing string, write func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			failed := db.failure.check()
			if failed == nil {
				// A panic with nothing wrong below may be a bug of ours: it says so in the message, and what
				// was written is unknown, so it ends the DB in either case.
				failed = fmt.Errorf("%v", r)
			}
			db.setWedged()
			err = db.broken(doing, failed)
		}
	}()
	if err := write(); err != nil {
		return db.broken(doing, err)
	}
	if err := db.failure.check(); err != nil {
		return explain(db.dir, doing, err)
	}
	return nil
}

// broken fails the database with err and returns the failure.
func (db *DB) broken(doing string, err error) error {
	err = explain(db.dir, doing, err)
	db.failure.fail(err)
	return db.failure.check()
}

func (db *DB) setWedged() {
	db.wedgeMu.Lock()
	defer db.wedgeMu.Unlock()
	db.wedged = true
}

// Get calls fn with the value of key, which is valid only until fn returns, and tells whether there is one. An
// error of fn is returned as it is.
func (db *DB) Get(key []byte, fn func(val []byte) error) (found bool, err error) {
	if err := db.failure.check(); err != nil {
		return false, err
	}
	val, closer, err := db.p.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, explain(db.dir, "reading a record", err)
	}
	err = fn(val)
	if cerr := closer.Close(); err == nil && cerr != nil {
		err = explain(db.dir, "reading a record", cerr)
	}
	return true, err
}

// NewIter returns an iterator over what is visible now. The caller closes it and asks it for its error; Explain
// makes that one readable.
func (db *DB) NewIter(o *IterOptions) (*Iterator, error) {
	if err := db.failure.check(); err != nil {
		return nil, err
	}
	it, err := db.p.NewIter(o)
	return it, explain(db.dir, "opening an iterator", err)
}

// GetDurable returns a copy of the value that key has in the flushed data: what a crash at this moment leaves of a
// state.
func (db *DB) GetDurable(key []byte) (val []byte, found bool, err error) {
	it, err := db.NewIter(&IterOptions{OnlyReadGuaranteedDurable: true, LowerBound: key})
	if err != nil {
		return nil, false, err
	}
	if it.First() && bytes.Equal(it.Key(), key) {
		val, found = append([]byte{}, it.Value()...), true
	}
	err = it.Error()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = db.failure.check()
	}
	if err != nil {
		return nil, false, explain(db.dir, "reading a durable record", err)
	}
	return val, found, nil
}

// Flush waits until everything committed before is durable.
func (db *DB) Flush() error {
	if err := db.failure.check(); err != nil {
		return err
	}
	return db.flush()
}

func (db *DB) beginFlush() (flushed <-chan struct{}, err error) {
	err = db.guard("flushing", func() (err error) {
		flushed, err = db.p.AsyncFlush()
		return err
	})
	return flushed, err
}

func (db *DB) flush() error {
	flushed, err := db.beginFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return explain(db.dir, "flushing", db.failure.check())
	case <-db.failure.done:
		return explain(db.dir, "flushing", db.failure.check())
	}
}

// Checkpoint writes a copy of everything committed before to dir, which must not exist. Tables are linked, not copied. A directory that cannot be
// synced, dir as well, is a failure of the database, since Pebble panics there; any other error is the copy's alone. OpenCopy syncs none.
func (db *DB) Checkpoint(dir string) error {
	// Without a write-ahead log a checkpoint holds flushed data alone.
	if err := db.Flush(); err != nil {
		return err
	}
	err := db.p.Checkpoint(dir, pebble.WithFlushedWAL())
	if failed := db.failure.check(); failed != nil {
		err = failed
	}
	return explain(db.dir, "writing a checkpoint to "+dir, err)
}

// OpenCopy opens everything committed before as a database of its own, for reading alone, in dir, which must not exist. It links the
// tables, needs no room for them as long as both are the same, and has a cache of its own, so that who reads it all puts nothing
// out of this one's. The caller closes it and removes dir, also after an error: it is not synced, so that it delays no sync of a log,
// and a crash leaves an unusable part of it. REQUIRES: o has the same FS, and dir is in a directory that holds no table of this one.
func (db *DB) OpenCopy(dir string, o Options) (*DB, error) {
	invariant.Check(db.fence.PathDir(dir) != db.dir, "a copy in %s, inside of the database", dir)
	defer db.fence.loosen(dir)()
	if err := db.Checkpoint(dir); err != nil {
		return nil, err
	}
	o.ReadOnly = true
	return OpenState(dir, o)
}

// CompactAll rewrites the whole database into its lowest level. It returns early when ctx ends or the DB fails.
func (db *DB) CompactAll(ctx context.Context) error {
	if err := db.failure.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-db.failure.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	from, to := []byte{0}, []byte{0xff, 0} // keys in the schema of either database
	err := db.p.Compact(ctx, from, to, false)
	if failed := db.failure.check(); failed != nil {
		err = failed
	}
	return explain(db.dir, "compacting", err)
}

// Close waits for background work and gives the directory free; compactions of a database that somebody asks (Options.Asked) are cut off. A state is
// flushed first, so that the next start replays nothing. Iterators must be closed before. After a failure Close returns that failure; where Pebble
// itself has panicked the directory stays locked until the process ends, as Pebble may still be at work there.
func (db *DB) Close() error {
	var err error
	db.pacer.end()
	if err = db.failure.check(); err == nil && !db.ro {
		err = db.flush()
	}
	close(db.stop)
	db.workers.Wait()
	db.history.end(db.failure)
	db.failure.close()
	db.stall.end()
	db.spare.end()
	if cerr := db.closePebble(); err == nil {
		err = explain(db.dir, "closing", cerr)
	}
	db.cache.close()
	if err == nil {
		err = db.failure.check()
	}
	if cerr := db.lock.Close(); err == nil {
		err = explain(db.dir, "releasing the lock", cerr)
	}
	return err
}

// closePebble closes Pebble, unless it would wait for ever for a lock that a panic left held. What it leaves behind
// then is stopped by the fence.
func (db *DB) closePebble() (err error) {
	db.wedgeMu.Lock()
	wedged := db.wedged
	db.wedgeMu.Unlock()
	if wedged {
		return db.failure.check()
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	db.pacer.cutOff()
	return db.p.Close()
}
