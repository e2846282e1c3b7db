package raftlog

import (
	"fmt"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// failure remembers the first failure of a log. From then on nothing is written, and nothing created, renamed or removed.
type failure struct {
	call func(error)
	err  atomic.Pointer[error]
}

// check returns nil as long as nothing failed.
func (f *failure) check() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// fail records and reports the first failure, and returns that.
func (f *failure) fail(err error) error {
	err = fmt.Errorf("%w: %w", storage.ErrFailed, err)
	if f.err.CompareAndSwap(nil, &err) {
		f.call(err)
	}
	return f.check()
}
