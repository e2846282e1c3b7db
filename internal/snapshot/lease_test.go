package snapshot_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func table(t testing.TB, db *storage.DB) *lease.Table {
	t.Helper()
	l, err := lease.Load(db)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLeasesAndTheirKeysTravel(t *testing.T) {
	t.Parallel()
	from, to := openState(t), openState(t)
	b := from.NewBatch()
	c := table(t, from).Begin(b)
	for _, err := range []error{
		c.Grant(1, 60), c.Grant(-1, 7), c.Checkpoint(-1, 5),
		c.Attach(-1, []byte("b")), c.Attach(-1, []byte("a\x00")), c.Attach(1, []byte("\xff")),
		from.Commit(b), c.Close(), b.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := snapshot.Build(to, bytes.NewReader(stream(t, from))); err != nil {
		t.Fatal(err)
	}
	got := table(t, to)
	if want := []lease.Lease{{ID: -1, TTL: 7, Remaining: 5}, {ID: 1, TTL: 60}}; !slices.Equal(got.List(), want) {
		t.Errorf("the leases are %v, want %v", got.List(), want)
	}
	keys, err := got.Keys(to, -1)
	if err != nil || !slices.EqualFunc(keys, []string{"a\x00", "b"}, func(k []byte, s string) bool { return string(k) == s }) {
		t.Errorf("the keys are %q, %v", keys, err)
	}
	if got.KeyCount(1) != 1 || got.KeyCount(-1) != 2 {
		t.Errorf("they have %d and %d keys", got.KeyCount(1), got.KeyCount(-1))
	}
}

func TestLeaseRecordsThatNobodyWritesAreRefused(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"a lease with a short id":      "l\x01\x00",
		"a lease with more than an id": "l12345678a\x00",
		"an attachment without a key":  "k12345678\x00",
	} {
		from := openState(t)
		if storage.ValidKey([]byte(key)) {
			t.Errorf("%s is valid", name)
		}
		set(t, from, map[string]string{key: ""})
		if err := snapshot.Build(openState(t), bytes.NewReader(stream(t, from))); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
