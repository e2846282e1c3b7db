package member

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAnExportThatWasCutIsGoneOnWith for as long as it is kept, and nothing of it is left after that.
func TestAnExportThatWasCutIsGoneOnWith(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.Default, func(cfg *Config) { cfg.DataDir = t.TempDir() })
	defer stop(t, x.Member)
	export := func() *Export {
		t.Helper()
		e, err := x.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	read := func(e *Export) []byte {
		t.Helper()
		b, err := io.ReadAll(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	resume := func(id string) (*Export, error) { return x.ResumeExport(t.Context(), id) }
	keep := func(e *Export, d time.Duration) {
		t.Helper()
		if err := e.Keep(d); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(what, id string) {
		t.Helper()
		if _, err := resume(id); !errors.Is(err, ErrExportGone) {
			t.Errorf("%s: got %v", what, err)
		}
	}

	first := export()
	want := read(first)
	keep(first, time.Minute)
	again, err := resume(first.ID())
	if err != nil {
		t.Fatal(err)
	}
	if got := read(again); !bytes.Equal(got, want) || again.Left() != 0 || again.Version() != first.Version() {
		t.Errorf("%d bytes came, %d before", len(got), len(want))
	}
	gone("another one", "x")

	// Whoever reads it still loses it: its connection is lost, and it does not know that yet.
	taken, err := resume(first.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Read(make([]byte, 1)); !errors.Is(err, ErrExportLost) {
		t.Errorf("reading what somebody else goes on with: %v", err)
	}
	keep(again, time.Minute) // does nothing
	if got := read(taken); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, %d before", len(got), len(want))
	}

	keep(taken, time.Minute)
	x.clock.Advance(time.Minute - 1)
	if taken, err = resume(first.ID()); err != nil {
		t.Fatalf("just before its end: %v", err)
	}
	x.clock.Advance(time.Minute)
	keep(taken, time.Minute)
	x.clock.Advance(time.Minute)
	gone("after its end", first.ID())

	second, third := export(), export()
	keep(second, time.Minute)
	keep(third, time.Minute)
	gone("before the last one", second.ID())
	if !x.maintenance.forgetKept() || x.maintenance.forgetKept() {
		t.Error("the last one was not kept")
	}
	gone("what gave way", third.ID())

	closed := export()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	gone("a closed one", closed.ID())
	if len(x.maintenance.exports) != 0 || len(x.maintenance.sent) != 0 || x.maintenance.kept != nil {
		t.Error("a place is still taken")
	}
	keep(export(), time.Minute) // stop gives its space back
}
