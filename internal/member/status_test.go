package member

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTheSizeOfAStateIsNoLessThanWhatIsInUse holds before anything is flushed, too.
func TestTheSizeOfAStateIsNoLessThanWhatIsInUse(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	const value = 1000
	put(t, m, "k", strings.Repeat("v", value))
	before := m.Status()
	if before.InUseBytes < value || before.DiskBytes < before.InUseBytes {
		t.Errorf("before a flush: %+v", before)
	}
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	if st := m.Status(); st.DiskBytes < st.InUseBytes {
		t.Errorf("after a flush: %+v", st)
	}
}
