package member

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestASnapshotThatEtcdReceivedIsTakenOver whose database was not put in its place before etcd ended: where that of the place is older, or
// has nothing yet.
func TestASnapshotThatEtcdReceivedIsTakenOver(t *testing.T) {
	t.Parallel()
	const name = "etcd-3.7-stopped"
	for what, place := range map[string]func(t *testing.T, database, received string){
		"beside an older one": func(t *testing.T, database, received string) {
			b, err := os.ReadFile(received)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(database, b, 0o600); err != nil {
				t.Fatal(err)
			}
			changeEtcd(t, database, func(tx *bolt.Tx) error {
				if err := tx.DeleteBucket([]byte("key")); err != nil {
					return err
				}
				return tx.Bucket([]byte("meta")).Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, 3))
			})
		},
		"beside a new one": func(t *testing.T, database, _ string) {
			changeEtcd(t, database, func(*bolt.Tx) error { return nil })
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := unpackEtcd(t, name)
			database := filepath.Join(dir, "member", "snap", "db")
			var index, term uint64
			changeEtcd(t, database, func(tx *bolt.Tx) error {
				meta := tx.Bucket([]byte("meta"))
				index = binary.BigEndian.Uint64(meta.Get([]byte("consistent_index")))
				term = binary.BigEndian.Uint64(meta.Get([]byte("term")))
				return nil
			})
			received := filepath.Join(dir, "member", "snap", fmt.Sprintf("%016x.snap.db", index))
			if err := os.Rename(database, received); err != nil {
				t.Fatal(err)
			}
			place(t, database, received)
			appendSnapshotToEtcdsLog(t, dir, index, term)
			m := start(t, takerOf(t, vfs.NewMem(), dir))
			checkTaken(t, m, etcdSummaryOf(t, name))
			stop(t, m)
		})
	}
}

// TestASnapshotThatEtcdHadBegunToReceiveIsLeftOut where etcd ended before the hard state that says that it is committed: etcd starts without it, too.
func TestASnapshotThatEtcdHadBegunToReceiveIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"etcd-3.7-stopped", "etcd-3.6-killed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := unpackEtcd(t, name)
			appendSnapshotToEtcdsLog(t, dir, 100_000, 9)
			m := start(t, takerOf(t, vfs.NewMem(), dir))
			checkTaken(t, m, etcdSummaryOf(t, name))
			stop(t, m)
		})
	}
}

// appendSnapshotToEtcdsLog writes the record of a snapshot behind everything else of a log.
func appendSnapshotToEtcdsLog(t *testing.T, dir string, index, term uint64) {
	t.Helper()
	snapshot := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), index)
	snapshot = protowire.AppendVarint(protowire.AppendTag(snapshot, 2, protowire.VarintType), term)
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %q, %v", logs, err)
	}
	appendToEtcdsLog(t, logs[0], 5, snapshot)
}

// changeEtcd changes a database of etcd, which is made if there is none.
func changeEtcd(t *testing.T, path string, change func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// appendToEtcdsLog writes one more record into a file of etcd's write-ahead log.
func appendToEtcdsLog(t *testing.T, path string, kind uint64, data []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const frame, lengthMask = 8, 1<<56 - 1
	at, sum := 0, uint64(0)
	for {
		length := binary.LittleEndian.Uint64(b[at:])
		if length == 0 {
			break
		}
		size, padding := int(length&lengthMask), 0
		if length>>63 != 0 {
			padding = int(length >> 56 & 7)
		}
		record := b[at+frame : at+frame+size]
		for len(record) > 0 {
			field, as, n := protowire.ConsumeTag(record)
			if field == 2 {
				sum, _ = protowire.ConsumeVarint(record[n:])
			}
			record = record[n+protowire.ConsumeFieldValue(field, as, record[n:]):]
		}
		at += frame + size + padding
	}
	sum = uint64(crc32.Update(uint32(sum), crc32.MakeTable(crc32.Castagnoli), data))
	record := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), kind)
	record = protowire.AppendVarint(protowire.AppendTag(record, 2, protowire.VarintType), sum)
	record = protowire.AppendBytes(protowire.AppendTag(record, 3, protowire.BytesType), data)
	length, padding := uint64(len(record)), (8-len(record)%8)%8
	if padding > 0 {
		length |= uint64(0x80|padding) << 56
	}
	written := append(binary.LittleEndian.AppendUint64(nil, length), record...)
	copy(b[at:], append(written, make([]byte, padding)...))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
