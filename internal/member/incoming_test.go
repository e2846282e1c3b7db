package member

import (
	"errors"
	"testing"
)

// TestNoSnapshotIsReceivedUntilTheOneBeforeIsInstalled: the number of a generation follows from the one that the log
// names, so one received before that is changed would be built over the one being installed.
func TestNoSnapshotIsReceivedUntilTheOneBeforeIsInstalled(t *testing.T) {
	t.Parallel()
	var in incoming
	if _, err := in.begin(); err != nil {
		t.Fatal(err)
	}
	built := &generation{number: 2}
	in.built(built, 7)
	in.decided(7, true)
	g, err := in.take(7)
	if err != nil || g != built {
		t.Fatalf("took %v, error %v", g, err)
	}
	if _, err := in.begin(); !errors.Is(err, ErrSnapshotBusy) {
		t.Errorf("while it is installed the next one got %v, want ErrSnapshotBusy", err)
	}
	in.installed()
	if old, err := in.begin(); err != nil || old != nil {
		t.Errorf("afterwards the next one got %v, error %v", old, err)
	}
}
