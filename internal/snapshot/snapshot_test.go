package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"strings"
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
		string(storage.AppendRevKey(nil, storage.SpaceCounts, 3, 1)):               "count",
	}
	for space, rest := range map[byte]string{
		storage.SpaceMembers: "12345678", storage.SpaceRemoved: "12345679", storage.SpaceLeases: "12345678",
		storage.SpaceAttachments: "12345678key", storage.SpaceAuth: "user", storage.SpaceAlarms: "alarm",
	} {
		kvs[string(storage.AppendPlainKey(nil, space, []byte(rest)))] = "travels"
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
	want := slices.DeleteFunc(dump(t, from), func(record string) bool { return strings.HasSuffix(record, fmt.Sprintf("=%x", "local")) })
	if got := dump(t, to); len(want) != len(kvs)-2 || !slices.Equal(got, want) {
		t.Errorf("%d records arrived, want %d of %d: all but identity and runs", len(got), len(want), len(kvs))
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

// blocks cuts a stream into its header, its blocks with their frames, and its end.
func blocks(b []byte) (head []byte, out [][]byte, end []byte) {
	const header = 12
	head, b = b[:header], b[header:]
	for {
		n := binary.BigEndian.Uint32(b)
		if n == 0 {
			return head, out, b
		}
		out = append(out, b[:8+n])
		b = b[8+n:]
	}
}

// checked is a block: bytes behind their length and their checksum.
func checked(payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, payload...)
}

// endOf is the end of a stream of so many records.
func endOf(records uint64) []byte {
	n := binary.BigEndian.AppendUint64(nil, records)
	return binary.BigEndian.AppendUint32(append(make([]byte, 4), n...), crc32.Checksum(n, crc32.MakeTable(crc32.Castagnoli)))
}

// holding is a whole stream of one block with these records.
func holding(head []byte, keys ...[]byte) []byte {
	var payload []byte
	for _, key := range keys {
		payload = binary.AppendUvarint(payload, uint64(len(key)))
		payload = append(payload, key...)
		payload = append(payload, 1, 'x')
	}
	return slices.Concat(head, checked(payload), endOf(uint64(len(keys))))
}

// TestADamagedStreamIsRefused for the reason that it has: each check finds what the others pass.
func TestADamagedStreamIsRefused(t *testing.T) {
	t.Parallel()
	from := openState(t)
	set(t, from, sample())
	r, err := snapshot.NewReader(from)
	if err != nil {
		t.Fatal(err)
	}
	good, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	records := r.Records()
	head, parts, end := blocks(good)
	if len(parts) < 3 || !bytes.Equal(end, endOf(records)) {
		t.Fatalf("%d blocks, and the end is %x", len(parts), end)
	}
	of := func(end []byte, parts ...[]byte) []byte { return slices.Concat(head, slices.Concat(parts...), end) }
	plain := func(space byte, text string) []byte { return storage.AppendPlainKey(nil, space, []byte(text)) }
	one, other := plain(storage.SpaceMeta, "one"), plain(storage.SpaceMeta, "other")
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		says   string // empty when it is refused by nothing
	}{
		"an empty stream":              {func([]byte) []byte { return nil }, "ends early"},
		"another magic":                {func(b []byte) []byte { b[0]++; return b }, "does not begin with"},
		"a newer version":              {func(b []byte) []byte { b[11]++; return b }, "version 2"},
		"no version":                   {func(b []byte) []byte { b[11] = 0; return b }, "version 0"},
		"a block of absurd length":     {func(b []byte) []byte { binary.BigEndian.PutUint32(b[12:], 1<<31); return b }, "the bound is"},
		"a flipped bit in a block":     {func(b []byte) []byte { b[1000] ^= 4; return b }, "a block's checksum differs"},
		"a flipped bit in the end":     {func(b []byte) []byte { b[len(b)-1] ^= 4; return b }, "the end's checksum differs"},
		"a stream without its end":     {func(b []byte) []byte { return b[:len(b)-16] }, "ends early"},
		"a stream cut in the middle":   {func(b []byte) []byte { return b[:len(b)/2] }, "ends early"},
		"a header and nothing more":    {func(b []byte) []byte { return b[:12] }, "ends early"},
		"a block's length cut":         {func(b []byte) []byte { return b[:14] }, "ends early"},
		"a length and nothing more":    {func(b []byte) []byte { return b[:16] }, "ends early"},
		"a block's checksum cut":       {func(b []byte) []byte { return b[:18] }, "ends early"},
		"a block's head alone":         {func(b []byte) []byte { return b[:20] }, "ends early"},
		"a byte behind the records":    {func([]byte) []byte { return of(endOf(0), checked([]byte{0})) }, "cut short"},
		"a stream that repeats itself": {func(b []byte) []byte { return append(b[:len(b)-16:len(b)-16], b[12:]...) }, "out of order"},
		"a block left out":             {func([]byte) []byte { return of(end, slices.Delete(slices.Clone(parts), 1, 2)...) }, "and says"},
		"all blocks left out":          {func([]byte) []byte { return of(end) }, "and says"},
		"one record too many told":     {func([]byte) []byte { return of(endOf(records+1), parts...) }, "and says"},
		"blocks in another order":      {func([]byte) []byte { return of(end, slices.Concat(parts[1:2], parts[:1], parts[2:])...) }, "out of order"},
		"a key twice":                  {func([]byte) []byte { return holding(head, one, one) }, "out of order"},
		"a record cut short":           {func([]byte) []byte { return of(endOf(1), checked([]byte("\x09short"))) }, "cut short"},
		"the identity of a member":     {func([]byte) []byte { return holding(head, plain(storage.SpaceMeta, "identity")) }, "does not belong"},
		"what a member counts":         {func([]byte) []byte { return holding(head, plain(storage.SpaceRuns, "k")) }, "does not belong"},
		"what is no key":               {func([]byte) []byte { return holding(head, []byte{storage.SpaceHistory, 1}) }, "does not belong"},
		"what is whole":                {func([]byte) []byte { return holding(head, one, other) }, ""},
		"nothing at all":               {func([]byte) []byte { return of(endOf(0)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := snapshot.Build(openState(t), bytes.NewReader(c.damage(bytes.Clone(good))))
			if c.says == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want ErrInvalid: %s", err, c.says)
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
