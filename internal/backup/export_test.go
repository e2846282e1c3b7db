package backup

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// TestExportsToOneFileAtOnce: one of them writes it, the others say that it is there, and none takes what another one writes for its own.
func TestExportsToOneFileAtOnce(t *testing.T) {
	t.Parallel()
	dir, _ := threePoints(t)
	for range 8 {
		to := t.TempDir()
		out := filepath.Join(to, "x.db")
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			all.Go(func() { _, errs[i] = Export(t.Context(), dir, 1+i%3, out) })
		}
		all.Wait()
		written := 0
		for _, err := range errs {
			if err == nil {
				written++
			} else if !errors.Is(err, os.ErrExist) {
				t.Error(err)
			}
		}
		if written != 1 {
			t.Errorf("%d of %d have written the one file", written, len(errs))
		}
		if err := etcdfile.CheckSum(t.Context(), out); err != nil {
			t.Error(err)
		}
		if names, err := os.ReadDir(to); err != nil || len(names) != 1 {
			t.Errorf("there is %v, %v", names, err)
		}
	}
}

// TestAnExportLeavesOtherFilesAlone, whatever their names are.
func TestAnExportLeavesOtherFilesAlone(t *testing.T) {
	t.Parallel()
	dir, _ := threePoints(t)
	out := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(out+tempSuffix, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), dir, 0, out); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out + tempSuffix); err != nil || string(b) != "mine" {
		t.Errorf("a file beside it holds %q, %v", b, err)
	}
}
