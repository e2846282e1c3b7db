package storage

import (
	"bytes"
	"errors"
	"runtime"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestWhoWritesInAnOpenThatHasFailedGoesNoFurther: neither is it told of a failure, which may make Pebble close what another goroutine of it uses, nor that
// all went well, so that it writes on into memory. In a database that was open it goes on.
func TestWhoWritesInAnOpenThatHasFailedGoesNoFurther(t *testing.T) {
	t.Parallel()
	const dir, cat = "data/state", vfs.WriteCategoryUnspecified
	create := func(f vfs.File, err error) error {
		if err != nil {
			return err
		}
		return f.Close()
	}
	for name, c := range map[string]struct {
		write func(f *fence, written vfs.File) error
		hides bool // the failure, in a database that was open
	}{
		"a file is created":    {func(f *fence, _ vfs.File) error { return create(f.Create(dir+"/new.sst", cat)) }, true},
		"a file is used again": {func(f *fence, _ vfs.File) error { return create(f.ReuseForWrite(dir+"/old", dir+"/2.log", cat)) }, true},
		"a file is opened":     {func(f *fence, _ vfs.File) error { return create(f.OpenReadWrite(dir+"/old", cat)) }, false},
		"a file is linked":     {func(f *fence, _ vfs.File) error { return f.Link(dir+"/old", dir+"/new.sst") }, false},
		"a file is renamed":    {func(f *fence, _ vfs.File) error { return f.Rename(dir+"/old", dir+"/new.sst") }, false},
		"a file is written":    {func(_ *fence, w vfs.File) error { _, err := w.Write([]byte("more")); return err }, true},
		"a file is synced":     {func(_ *fence, w vfs.File) error { return w.Sync() }, true},
	} {
		for when, opening := range map[string]bool{" while it is being opened": true, " when it is open": false} {
			t.Run(name+when, func(t *testing.T) {
				t.Parallel()
				mem := vfs.NewMem()
				if err := MakeDirs(mem, dir); err != nil {
					t.Fatal(err)
				}
				failed := newFailure(dir, func(error) {})
				f := newFence(mem, failed, nil)
				if err := create(f.Create(dir+"/old", cat)); err != nil {
					t.Fatal(err)
				}
				written, err := f.Create(dir+"/written", cat)
				if err != nil {
					t.Fatal(err)
				}
				if !opening {
					if err := failed.opened(); err != nil {
						t.Fatal(err)
					}
				}
				go failed.fail(syscall.EIO)
				<-failed.done
				went, stands := parked(t, func() error { return c.write(f, written) })
				switch {
				case stands != opening:
					t.Errorf("it goes no further: %t, want %t; it is told: %v", stands, opening, went)
				case !opening && errors.Is(went, ErrFailed) == c.hides:
					t.Errorf("it is told: %v", went)
				}
				names, err := mem.List(dir)
				if err != nil || len(names) != 2 {
					t.Errorf("the directory has %q, %v", names, err)
				}
			})
		}
	}
}

// parked runs f in a goroutine of its own until it returns, or has ended itself for ever.
func parked(t *testing.T, f func() error) (err error, ended bool) {
	t.Helper()
	self, returned := make(chan []byte, 1), make(chan error, 1)
	go func() {
		header := make([]byte, 100)
		header, _, _ = bytes.Cut(header[:runtime.Stack(header, false)], []byte("["))
		self <- header // "goroutine 7 "
		returned <- f()
	}()
	forEver := append([]byte("\n\n"), append(<-self, "[select (no cases)"...)...)
	for stacks := make([]byte, 1<<20); t.Context().Err() == nil; runtime.Gosched() {
		select {
		case err := <-returned:
			return err, false
		default:
		}
		switch n := runtime.Stack(stacks, true); {
		case n == len(stacks):
			stacks = make([]byte, 2*n)
		case bytes.Contains(stacks[:n], forEver):
			return nil, true
		}
	}
	t.Fatal("it neither returns nor ends")
	return nil, false
}
