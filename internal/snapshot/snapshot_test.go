package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func openState(t testing.TB) *storage.DB {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{
		FS: vfs.NewMem(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal: func(err error) { t.Errorf("the state failed: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func set(t testing.TB, db *storage.DB, kvs map[string]string) {
	t.Helper()
	b := db.NewBatch()
	for k, v := range kvs {
		if err := b.Set([]byte(k), []byte(v), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// sample is a state with something in each space, a few blocks of it.
func sample() map[string]string {
	kvs := map[string]string{
		string(storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("applied"))):  "applied",
		string(storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("identity"))): "local",
		string(storage.AppendPlainKey(nil, storage.SpaceRuns, []byte("k"))):        "local",
	}
	for i := range 3_000 {
		key := fmt.Appendf(nil, "key-%05d", i)
		for rev := int64(1); rev < 4; rev++ {
			kvs[string(storage.AppendDataKey(nil, key, rev+int64(i), uint32(i%2)))] = string(bytes.Repeat(key, 50))
			kvs[string(storage.AppendRevKey(nil, storage.SpaceHistory, rev+int64(i), uint32(i%2)))] = string(key)
		}
	}
	return kvs
}

func stream(t testing.TB, db *storage.DB) []byte {
	t.Helper()
	r, err := snapshot.NewReader(db)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(iotest.HalfReader(r))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func dump(t testing.TB, db *storage.DB) (out []string) {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		out = append(out, fmt.Sprintf("%x=%x", it.Key(), it.Value()))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAStateBuiltFromAStreamHoldsAllThatTravels(t *testing.T) {
	t.Parallel()
	from, to := openState(t), openState(t)
	kvs := sample()
	set(t, from, kvs)
	if err := snapshot.Build(to, bytes.NewReader(stream(t, from))); err != nil {
		t.Fatal(err)
	}
	got := dump(t, to)
	if want := len(kvs) - 2; len(got) != want {
		t.Errorf("%d records arrived, want %d: all but identity and runs", len(got), want)
	}
	if again := stream(t, to); !bytes.Equal(again, stream(t, from)) {
		t.Error("the stream of the copy differs")
	}
}

// TestALargeRecordTravels: --max-request-bytes may allow values of any size.
func TestALargeRecordTravels(t *testing.T) {
	t.Parallel()
	from, to := openState(t), openState(t)
	key := string(storage.AppendDataKey(nil, []byte("large"), 2, 0))
	set(t, from, map[string]string{key: string(bytes.Repeat([]byte("x"), 5<<20))})
	if err := snapshot.Build(to, iotest.HalfReader(bytes.NewReader(stream(t, from)))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stream(t, to), stream(t, from)) {
		t.Error("the stream of the copy differs")
	}
}

func TestAStreamIsTheStateAsItWasWhenTheReaderWasMade(t *testing.T) {
	t.Parallel()
	db := openState(t)
	set(t, db, sample())
	before := stream(t, db)
	r, err := snapshot.NewReader(db)
	if err != nil {
		t.Fatal(err)
	}
	set(t, db, map[string]string{string(storage.AppendDataKey(nil, []byte("later"), 9, 0)): "x"})
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, before) {
		t.Error("a later write is in the stream")
	}
}

func TestADamagedStreamIsRefused(t *testing.T) {
	t.Parallel()
	from := openState(t)
	set(t, from, sample())
	good := stream(t, from)
	cases := map[string]func([]byte) []byte{
		"an empty stream":              func([]byte) []byte { return nil },
		"another magic":                func(b []byte) []byte { b[0]++; return b },
		"a newer version":              func(b []byte) []byte { b[11]++; return b },
		"a block of absurd length":     func(b []byte) []byte { binary.BigEndian.PutUint32(b[12:], 1<<31); return b },
		"a flipped bit in a block":     func(b []byte) []byte { b[1000] ^= 4; return b },
		"a flipped bit in the end":     func(b []byte) []byte { b[len(b)-1] ^= 4; return b },
		"a wrong number of records":    func(b []byte) []byte { b[len(b)-5] ^= 1; return b },
		"a stream without its end":     func(b []byte) []byte { return b[:len(b)-16] },
		"a stream cut in the middle":   func(b []byte) []byte { return b[:len(b)/2] },
		"a stream that repeats itself": func(b []byte) []byte { return append(b[:len(b)-16:len(b)-16], b[12:]...) },
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := snapshot.Build(openState(t), bytes.NewReader(damage(bytes.Clone(good))))
			if !errors.Is(err, snapshot.ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		})
	}
}

func FuzzBuild(f *testing.F) {
	from := openState(f)
	set(f, from, map[string]string{
		string(storage.AppendDataKey(nil, []byte("a"), 2, 1)):                     "value",
		string(storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("applied"))): "applied",
	})
	f.Add(stream(f, from))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := snapshot.Build(openState(t), bytes.NewReader(b)); err != nil && !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	})
}
