package e2e

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/test/process"
)

// change is one key's new version, or its deletion, as a snapshot recorded it.
type change struct {
	kv      *mvccpb.KeyValue // of a deletion only the key is set
	deleted bool
}

// revision is all that one write changed, in the order of its sub-revisions.
type revision struct {
	main    int64
	changes []change
}

// summary is what must be found in the snapshot, as the JSON file beside it says.
type summary struct {
	Revision        int64          `json:"revision"`
	CompactRevision int64          `json:"compact_revision"`
	TotalKeys       int            `json:"total_keys"`
	Digest          string         `json:"keys_sha256"`
	KeysPerPrefix   map[string]int `json:"keys_per_prefix"`
	AtRevisions     []struct {
		Revision int64  `json:"revision"`
		Keys     int    `json:"keys"`
		Digest   string `json:"keys_sha256"`
	} `json:"at_revisions"`
}

// kubernetesData reads the snapshot of a store that kube-apiserver filled. The file is shared between repositories; without it
// the test is skipped, but not in CI.
func kubernetesData(t *testing.T) ([]revision, summary) {
	t.Helper()
	root, err := process.Root()
	noError(t, err)
	base := filepath.Join(root, "..", "shared", "data", "kubernetes-1.36.snapshot")
	file, err := os.ReadFile(base + ".db")
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: the recorded Kubernetes data is missing, and CI must not pass without it: %v", t.Name(), err)
		}
		t.Skipf("%s SKIPPED: the recorded Kubernetes data is not there: %v", t.Name(), err)
	}
	noError(t, err)
	described, err := os.ReadFile(base + ".json")
	noError(t, err)
	var s summary
	noError(t, json.Unmarshal(described, &s))
	return readSnapshot(t, file), s
}

// readSnapshot returns what the key bucket of a snapshot file holds, in revision order.
func readSnapshot(t *testing.T, file []byte) []revision {
	t.Helper()
	pages, sum := file[:len(file)-sha256.Size], file[len(file)-sha256.Size:]
	if sha256.Sum256(pages) != [sha256.Size]byte(sum) {
		t.Fatal("the snapshot file's checksum is wrong")
	}
	path := filepath.Join(t.TempDir(), "snapshot.db")
	noError(t, os.WriteFile(path, pages, 0o600))
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	noError(t, err)
	defer db.Close()

	var revisions []revision
	noError(t, db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
			main, c, err := decodeRecord(k, v)
			if err != nil {
				return err
			}
			if n := len(revisions); n == 0 || revisions[n-1].main != main {
				revisions = append(revisions, revision{main: main})
			}
			last := &revisions[len(revisions)-1]
			last.changes = append(last.changes, c)
			return nil
		})
	}))
	return revisions
}

// decodeRecord reads a record of the key bucket: 8 bytes of revision, '_', 8 bytes of sub-revision, 't' on a tombstone.
func decodeRecord(k, v []byte) (main int64, c change, err error) {
	if len(k) != 17 && len(k) != 18 {
		return 0, c, fmt.Errorf("reading the key bucket: a key of %d bytes", len(k))
	}
	c = change{kv: &mvccpb.KeyValue{}, deleted: len(k) == 18}
	if err := proto.Unmarshal(v, c.kv); err != nil {
		return 0, c, fmt.Errorf("reading the key bucket: %w", err)
	}
	return int64(binary.BigEndian.Uint64(k)), c, nil
}
