package member

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAnExportIsEmptiedBeforeItIsClosed so that closing it has nothing left to give back at once.
func TestAnExportIsEmptiedBeforeItIsClosed(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.Default, func(cfg *Config) { cfg.DataDir = t.TempDir() })
	defer stop(t, x.Member)
	for name, end := range map[string]func(*Export) error{
		"closed": (*Export).Close,
		"kept for nobody": func(e *Export) error {
			err := e.Keep(time.Minute)
			x.clock.Advance(time.Minute)
			return err
		},
	} {
		e, err := x.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Dup(int(e.file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.Size() != e.Left() {
			t.Errorf("%s: it has %d bytes, want %d, %v", name, info.Size(), e.Left(), err)
		}
		if err := end(e); err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%s: %d bytes are left, %v", name, info.Size(), err)
		}
	}
}
