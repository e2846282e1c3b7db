package ctl

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAMarkThatIsNotDurableIsAnError: an empty file could be what a loss of power leaves.
func TestAMarkThatIsNotDurableIsAnError(t *testing.T) {
	t.Parallel()
	m := &importMark{name: filepath.Join(t.TempDir(), "export.progress")}
	if err := m.set(1, 7); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, m.name+".new"); err != nil { // which takes everything and cannot be synced
		t.Fatal(err)
	}
	if err := m.set(2, 8); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("it ends with %v", err)
	}
	if b, err := os.ReadFile(m.name); err != nil || string(b) != `{"size":0,"cluster":"","offset":1,"sum":7}`+"\n" {
		t.Errorf("the mark is %q, %v", b, err)
	}
}
