package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// versionsOf returns two versions, one with a large value, by their keys in data.
func versionsOf(t *testing.T) map[string]string {
	t.Helper()
	kvs := map[string]string{}
	for rev, value := range map[int64][]byte{2: []byte("small"), 3: bytes.Repeat([]byte("large"), 20_000)} {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&mvccpb.KeyValue{
			Key: []byte("k"), CreateRevision: 2, ModRevision: rev, Version: rev - 1, Value: value,
		})
		if err != nil {
			t.Fatal(err)
		}
		kvs[string(storage.AppendDataKey(nil, []byte("k"), rev, uint32(rev-2)))] = string(raw)
	}
	return kvs
}

// TestLargeValuesTravelWithTheirKeys: a stream is the same wherever a state keeps them, and what is built of it keeps them apart.
func TestLargeValuesTravelWithTheirKeys(t *testing.T) {
	t.Parallel()
	older, to := openState(t), openState(t)
	set(t, older, versionsOf(t))
	want := stream(t, older)
	if err := snapshot.Build(to, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, to); len(got) != 3 {
		t.Errorf("%d records are built, want those of two versions and of a large value", len(got))
	}
	if !bytes.Equal(stream(t, to), want) {
		t.Error("the stream of the copy differs")
	}
}

// TestALargeValueThatIsLostEndsTheStream: nobody builds a state without it.
func TestALargeValueThatIsLostEndsTheStream(t *testing.T) {
	t.Parallel()
	db := openState(t)
	b := db.NewBatch()
	for key, raw := range versionsOf(t) {
		if err := mvcc.StoreVersion(b, []byte(key), []byte(raw)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.Delete(storage.AppendRevKey(nil, storage.SpaceLarge, 3, 1), nil), db.Commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.NewReader(db)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Read(make([]byte, 1<<20))
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAStreamHoldsNoOtherFormOfLargeValues: neither a stub nor what belongs to one is taken.
func TestAStreamHoldsNoOtherFormOfLargeValues(t *testing.T) {
	t.Parallel()
	whole := openState(t)
	if err := snapshot.Build(whole, bytes.NewReader(streamOf(versionsOf(t)))); err != nil {
		t.Fatal(err)
	}
	var stub, value map[string]string
	for _, space := range []byte{storage.SpaceData, storage.SpaceLarge} {
		lower, upper := storage.SpaceBounds(space)
		it, err := whole.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			t.Fatal(err)
		}
		it.First() // of data the newest version, which has the large value
		if space == storage.SpaceData {
			stub = map[string]string{string(it.Key()): string(it.Value())}
		} else {
			value = map[string]string{string(it.Key()): string(it.Value())}
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, kvs := range map[string]map[string]string{"a stub": stub, "a large value": value} {
		if err := snapshot.Build(openState(t), bytes.NewReader(streamOf(kvs))); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// streamOf is a stream of these records as they are.
func streamOf(kvs map[string]string) []byte {
	var keys []string
	for k := range kvs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return storage.CompareKeys([]byte(a), []byte(b)) })
	var payload []byte
	for _, k := range keys {
		for _, part := range []string{k, kvs[k]} {
			payload = append(binary.AppendUvarint(payload, uint64(len(part))), part...)
		}
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	out := append([]byte("ASHLARS1"), 0, 0, 0, 1)
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(payload, table))
	out = append(append(out, payload...), 0, 0, 0, 0)
	n := binary.BigEndian.AppendUint64(nil, uint64(len(keys)))
	return binary.BigEndian.AppendUint32(append(out, n...), crc32.Checksum(n, table))
}
