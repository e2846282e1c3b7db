package storage

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// oldLog writes a raft log in Pebble as earlier releases did.
type oldLog struct {
	t      *testing.T
	p      *pebble.DB
	synced uint64
}

func openOldLog(t *testing.T, fs vfs.FS, dir string) *oldLog {
	t.Helper()
	if err := MakeDirs(fs, dir); err != nil {
		t.Fatal(err)
	}
	o := logOptions(Options{MemTableBytes: logMemTableBytes})
	o.FS, o.ReadOnly = fs, false
	p, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return &oldLog{t: t, p: p}
}

// write commits one synced batch with a witness; without a key it is a seal.
func (l *oldLog) write(key, val []byte) {
	l.t.Helper()
	b := l.p.NewBatch()
	witness := binary.LittleEndian.AppendUint64([]byte(witnessMagic), l.synced)
	err := b.LogData(witness, nil)
	if key != nil {
		err = errors.Join(err, b.Set(key, val, nil))
	}
	if err = errors.Join(err, l.p.Apply(b, pebble.Sync)); err != nil {
		l.t.Fatal(err)
	}
	l.synced = uint64(b.SeqNum()) + uint64(b.Count())
	l.close(b.Close())
}

func (l *oldLog) close(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}
