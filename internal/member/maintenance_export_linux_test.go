package member

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// openWithoutName opens the one file of the member's that is open and has no name.
func openWithoutName(t *testing.T, cfg Config) *os.File {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		link := filepath.Join("/proc/self/fd", fd.Name())
		to, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(to, filepath.Join(storage.Root(cfg.DataDir), exportPrefix)) {
			continue // it may have been closed since
		}
		f, err := os.Open(link)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	t.Fatal("there is none")
	return nil
}

// exported returns an export of a small member, and the file that it lies in.
func exported(t *testing.T) (*leased, *Export, *os.File) {
	t.Helper()
	x := newLeased(t, vfs.Default, func(cfg *Config) { cfg.DataDir = t.TempDir() })
	t.Cleanup(func() { stop(t, x.Member) })
	x.do(apply.CommandPut, &etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte("1")})
	e, err := x.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := openWithoutName(t, x.cfg)
	t.Cleanup(func() { _ = f.Close() })
	return x, e, f
}

// TestAnExportIsEmptiedBeforeItIsClosed so that closing it has nothing left to give back at once.
func TestAnExportIsEmptiedBeforeItIsClosed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*leased, *Export) error{
		"closed": func(_ *leased, e *Export) error { return e.Close() },
		"kept for nobody": func(x *leased, e *Export) error {
			err := e.Keep(time.Minute)
			x.clock.Advance(time.Minute)
			return err
		},
	} {
		x, e, f := exported(t)
		if info, err := f.Stat(); err != nil || info.Size() == 0 {
			t.Errorf("%s: it has %d bytes, %v", name, info.Size(), err)
		}
		if err := end(x, e); err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%s: %d bytes are left, %v", name, info.Size(), err)
		}
	}
}

// TestADamagedExportIsKeptForNobody: whoever came back for it would get no further, again and again.
func TestADamagedExportIsKeptForNobody(t *testing.T) {
	t.Parallel()
	x, e, f := exported(t)
	if err := os.Truncate(f.Name(), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, e); err == nil || e.Left() == 0 {
		t.Errorf("%d bytes are read, %v", n, err)
	}
	if err := e.Keep(time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := x.ResumeExport(t.Context(), e.ID()); !errors.Is(err, ErrExportGone) {
		t.Errorf("it is gone on with: %v", err)
	}
}
