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
	opening bool       // failures of Open are its result and call nobody
	closing bool       // nor does background work that Close cuts off
	err     error
}

func newFailure(dir string, call func(error)) *failure {
	return &failure{dir: dir, call: call, done: make(chan struct{}), opening: true}
}

// fail records the first failure, raises the fence, and reports it.
func (f *failure) fail(err error) {
	f.mu.Lock()
	if f.err != nil {
		f.mu.Unlock()
		return
	}
	f.err = fmt.Errorf("%w: %w", ErrFailed, err)
	f.raised.Store(true)
	close(f.done)
	silent, err := f.opening || f.closing, f.err
	f.mu.Unlock()
	if !silent {
		f.call(err)
	}
}

// take is fail for an error that Pebble must not see. It tells whether it took the error; while opening it does not take
// the first one, the caller then passes it on. Once the failure is raised it takes everything, since a flush in Open is
// tried again until it succeeds. err is nil when there is a failure already.
func (f *failure) take(err error) bool {
	f.mu.Lock()
	pass := f.opening && f.err == nil
	f.mu.Unlock()
	if pass {
		return false
	}
	if err != nil {
		f.fail(err)
	}
	return true
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

// opened ends the time in which failures call nobody.
func (f *failure) opened() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = false
}

// close begins the time in which failures call nobody again.
func (f *failure) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
}
