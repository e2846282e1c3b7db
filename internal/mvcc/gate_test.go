package mvcc

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestARetiredStoreEndsWithItsLastUser(t *testing.T) {
	t.Parallel()
	s, done := openStore(t, vfs.NewMem(), smallRuns)
	put(t, s, "a", "1")
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(); err != nil {
		t.Fatal(err)
	}
	ended := 0
	s.Retire(func() { ended++; done() })
	if _, err := s.View(0); !errors.Is(err, ErrRetired) {
		t.Errorf("a view of a retired store: %v", err)
	}
	if err := s.Hold(); !errors.Is(err, ErrRetired) {
		t.Errorf("holding a retired store: %v", err)
	}
	if text, err := rangeText(v, RangeOptions{Key: []byte("a")}); err != nil || text != "a=1@2/2/1 count 1" {
		t.Errorf("a view from before reads %s (%v)", text, err)
	}
	s.Release()
	if ended != 0 {
		t.Fatal("the database was closed under a view")
	}
	if err := v.Close(); err != nil || ended != 1 {
		t.Errorf("closing the last view: %v; ended %d times", err, ended)
	}
}
