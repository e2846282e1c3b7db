package storage

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTheLogIsNotCompactedBeforeItIsCut: entries that fill several memtables before they are cut off are written to a table once.
func TestTheLogIsNotCompactedBeforeItIsCut(t *testing.T) {
	t.Parallel()
	db, err := OpenLog("data/log", Options{FS: vfs.NewMem(), Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) []byte { return binary.BigEndian.AppendUint64([]byte{0x10}, uint64(i)) }
	const tables, each = 5, 50
	for i := range tables * each {
		b := db.NewBatch()
		// Every batch sets the last index too, so all tables lie on one another.
		err := errors.Join(b.Set(key(i), make([]byte, 4096), nil), b.Set([]byte{4}, key(i), nil), db.Commit(b, false), b.Close())
		if err == nil && i%each == each-1 {
			err = db.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if m := db.Metrics(); m.Flushes < tables || m.Compactions+m.CompactionsRunning != 0 {
		t.Errorf("%d flushes, %d compactions and %d that run", m.Flushes, m.Compactions, m.CompactionsRunning)
	}
	b := db.NewBatch()
	if err := errors.Join(b.DeleteRange(key(0), key(tables*each), nil), db.Commit(b, false), b.Close(), db.CompactAll(t.Context())); err != nil {
		t.Fatal(err)
	}
	if m := db.Metrics(); m.LiveBytes > each*4096 {
		t.Errorf("after a cut and a compaction %d bytes are left", m.LiveBytes)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
