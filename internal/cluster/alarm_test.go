package cluster

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

func openAlarms(t *testing.T, fs vfs.FS) (*storage.DB, *Alarms) {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	a, err := LoadAlarms(db)
	if err != nil {
		t.Fatal(err)
	}
	return db, a
}

func TestAlarmsAreSeenAfterPublishAndAfterReopening(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	db, a := openAlarms(t, fs)
	b := db.NewBatch()
	c := a.Begin(b)
	for _, x := range []Alarm{{7, AlarmNoSpace}, {1 << 63, AlarmCorrupt}, {5, AlarmNoSpace}, {5, 9}, {5, AlarmNoSpace}} {
		if err := c.Activate(x); err != nil {
			t.Fatal(err)
		}
	}
	want := []Alarm{{5, AlarmNoSpace}, {7, AlarmNoSpace}, {1 << 63, AlarmCorrupt}, {5, 9}}
	if got := c.List(); !slices.Equal(got, want) || !c.Active(AlarmCorrupt) {
		t.Errorf("the change sees %v, want %v", got, want)
	}
	if got := a.List(); len(got) != 0 || a.Active(AlarmNoSpace) {
		t.Errorf("readers see %v before it is published", got)
	}
	if err := errors.Join(db.Commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	c.Publish()
	if got := a.List(); !slices.Equal(got, want) || !a.Has(Alarm{7, AlarmNoSpace}) || a.Has(Alarm{7, AlarmCorrupt}) {
		t.Errorf("readers see %v, want %v", got, want)
	}

	b = db.NewBatch()
	c = a.Begin(b)
	for _, x := range []struct {
		Alarm
		was bool
	}{{Alarm{7, AlarmNoSpace}, true}, {Alarm{7, AlarmNoSpace}, false}, {Alarm{7, AlarmCorrupt}, false}, {Alarm{1 << 63, AlarmCorrupt}, true}} {
		if was, err := c.Deactivate(x.Alarm); err != nil || was != x.was {
			t.Errorf("lowering %v: %v, %v", x.Alarm, was, err)
		}
	}
	if err := errors.Join(db.Commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	c.Publish()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, a = openAlarms(t, fs)
	defer func() { _ = db.Close() }()
	if got, want := a.List(), []Alarm{{5, AlarmNoSpace}, {5, 9}}; !slices.Equal(got, want) {
		t.Errorf("after reopening %v, want %v", got, want)
	}
}

func TestADamagedAlarmRecordIsCorruption(t *testing.T) {
	t.Parallel()
	db, _ := openAlarms(t, vfs.NewMem())
	defer func() { _ = db.Close() }()
	b := db.NewBatch()
	err := errors.Join(b.Set(storage.AppendPlainKey(nil, storage.SpaceAlarms, []byte("short")), nil, nil), db.Commit(b), b.Close())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAlarms(db); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("loading: %v", err)
	}
}
