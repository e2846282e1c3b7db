package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// failure remembers the first failure of a database and stops it.
type failure struct {
	dir  string
	call func(error)

	raised atomic.Bool   // read by the fence on every operation that changes the directory
	done   chan struct{} // closed once err is set

	mu      sync.Mutex // guards what follows; not held while call runs
	opening bool       // failures of Open are its result and call nobody; it stays set when Open fails
	closing bool       // nor does background work that Close cuts off
	err     error
}

func newFailure(dir string, call func(error)) *failure {
	return &failure{dir: dir, call: call, done: make(chan struct{}), opening: true}
}

// fail records the first failure, raises the fence, and reports it. While the database is being opened it does not
// return: Pebble tries a failed flush again for ever, and waits for it in Open; its goroutine ends here and the
// whole attempt is abandoned (see open).
func (f *failure) fail(err error) {
	f.mu.Lock()
	first := f.err == nil
	if first {
		f.err = fmt.Errorf("%w: %w", ErrFailed, err)
		f.raised.Store(true)
		close(f.done)
	}
	opening, closing, err := f.opening, f.closing, f.err
	f.mu.Unlock()
	switch {
	case opening:
		select {}
	case first && !closing:
		f.call(err)
	}
}

// take is fail for an error that Pebble must not see; nil when there is a failure already.
func (f *failure) take(err error) {
	f.mu.Lock()
	opening := f.opening
	f.mu.Unlock()
	if err != nil || opening {
		f.fail(err)
	}
}

// check returns nil as long as nothing failed.
func (f *failure) check() error {
	if !f.raised.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// opened ends the time in which failures are Open's result, and returns the failure if there was one: then that time
// does not end.
func (f *failure) opened() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = f.err != nil
	return f.err
}

// isOpen says whether the time is over in which failures are Open's result.
func (f *failure) isOpen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.opening
}

// close begins the time in which failures call nobody again.
func (f *failure) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
}
