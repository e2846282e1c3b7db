package mvcc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// sharedData is where the recorded etcd data lies, beside the repository.
const sharedData = "../../../shared/data"

// TestHashOfKubernetesSnapshot loads the versions that etcd stored for a Kubernetes cluster and wants etcd's hashes at
// each revision that was recorded.
func TestHashOfKubernetesSnapshot(t *testing.T) {
	t.Parallel()
	var want struct {
		CompactRevision int64 `json:"compact_revision"`
		TotalKeys       int64 `json:"total_keys"`
		AtRevisions     []struct {
			Revision, Keys int64
			HashKV         uint32
		} `json:"at_revisions"`
		HashKV struct {
			Hash         uint32
			HashRevision int64 `json:"hash_revision"`
		}
	}
	name := filepath.Join(sharedData, "kubernetes-1.36.snapshot")
	text, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Skipf("SKIPPED for want of the recorded data beside the repository: %v", err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	s, done := openStore(t, importSnapshot(t, name+".db", want.CompactRevision), defaultRunSizes)
	defer done()
	checkStore(t, s)
	for _, at := range want.AtRevisions {
		hash, compactRev, rev, err := s.HashKV(context.Background(), at.Revision)
		if err != nil || hash != at.HashKV || rev != at.Revision || compactRev != want.CompactRevision {
			t.Errorf("at %d: hash %d at %d compacted to %d (%v), want %d", at.Revision, hash, rev, compactRev, err, at.HashKV)
		}
		v, err := s.View(at.Revision)
		if err != nil {
			t.Fatal(err)
		}
		res, err := v.Range(RangeOptions{Key: []byte{0}, End: []byte{0}, CountOnly: true}, nil)
		if err != nil || res.Count != at.Keys {
			t.Errorf("at %d: %d keys (%v), want %d", at.Revision, res.Count, err, at.Keys)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	hash, _, rev, err := s.HashKV(context.Background(), 0)
	if err != nil || hash != want.HashKV.Hash || rev != want.HashKV.HashRevision {
		t.Errorf("now: hash %d at %d (%v), want %d at %d", hash, rev, err, want.HashKV.Hash, want.HashKV.HashRevision)
	}
}

// importSnapshot writes the records of an etcd database file as they are: compaction has removed the versions that a
// replay through the Writer would need.
func importSnapshot(t *testing.T, name string, compactRev int64) vfs.FS {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "db")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, content, 0o600); err != nil {
		t.Fatal(err)
	}
	etcd, err := bolt.Open(copied, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	fs := vfs.NewMem()
	db, err := storage.OpenState("state", storage.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	heads := map[string]Revision{}
	var last Revision
	err = etcd.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(k, raw []byte) error {
			rev := Revision{int64(binary.BigEndian.Uint64(k)), uint32(binary.BigEndian.Uint64(k[9:]))}
			kv, err := ParseKV(raw)
			if err != nil {
				return err
			}
			kind, key := EventPut, string(kv.Key())
			prev, live := heads[key]
			if len(k) == 18 {
				kind, raw = EventDelete, nil
				delete(heads, key)
			} else {
				heads[key] = rev
			}
			if live == (kind == EventDelete) {
				if err := writeCountChange(b, kind, []byte(key), rev); err != nil {
					return err
				}
			}
			last = rev
			if err := writeData(b, []byte(key), rev, raw); err != nil {
				return err
			}
			return writeHistory(b, kind, []byte(key), rev, prev, 0)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		name string
		val  []byte
	}{
		{metaApplied, encodeNumbers(7, 1, uint64(last.Main))},
		{metaCompactScheduled, encodeNumbers(uint64(compactRev))},
		{metaCompactDone, encodeNumbers(uint64(compactRev), maxSub)},
	} {
		if err := b.Set(metaKey(m.name), m.val, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}
