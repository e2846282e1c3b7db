package etcdfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// recordsOf makes random records, in order, for one bucket.
func recordsOf(r *rand.Rand, n, keyMax, valueMax int) (all [][2][]byte) {
	for i := range n {
		key := binary.BigEndian.AppendUint64(nil, uint64(i))
		key = append(key, bytes.Repeat([]byte{'k'}, r.IntN(keyMax-len(key)+1))...)
		value := bytes.Repeat([]byte{byte(i)}, r.IntN(valueMax+1))
		all = append(all, [2][]byte{key, value})
	}
	return all
}

// TestBboltFindsNoFault writes trees of several depths, and lets bbolt check every page of them, read every record, and write on.
func TestBboltFindsNoFault(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ records, keyMax, valueMax int }{
		"no record":               {0, 8, 0},
		"one record":              {1, 8, 10},
		"a few pages":             {300, 20, 100},
		"two levels of branches":  {60_000, 17, 100},
		"keys as large as can be": {40, bolt.MaxKeySize, 10},
		"values of many pages":    {40, 20, 100_000},
		"values about as large as a page": {
			200, 20, os.Getpagesize() + 100,
		},
		"long keys, and so many levels": {3_000, 1_500, 1_000},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			w, err := Create(path)
			noError(t, err)
			r := rand.New(rand.NewPCG(uint64(c.records), uint64(c.keyMax)))
			want := map[string][][2][]byte{bucketKey: recordsOf(r, c.records, c.keyMax, c.valueMax), bucketLease: recordsOf(r, c.records/2, 20, 10)}
			for i, record := range want[bucketKey] { // beside each other
				noError(t, w.Put(bucketKey, record[0], record[1]))
				if i < len(want[bucketLease]) {
					noError(t, w.Put(bucketLease, want[bucketLease][i][0], want[bucketLease][i][1]))
				}
			}
			noError(t, w.Finish())
			db, err := bolt.Open(path, 0o600, &bolt.Options{PreLoadFreelist: true})
			noError(t, err)
			checkBolt(t, db, want)
			again := want[bucketKey][:len(want[bucketKey])/3]
			noError(t, db.Update(func(tx *bolt.Tx) error {
				for _, record := range again {
					if err := tx.Bucket([]byte(bucketKey)).Delete(record[0]); err != nil {
						return err
					}
				}
				return tx.Bucket([]byte(bucketAlarm)).Put([]byte("a"), nil)
			}))
			want[bucketKey] = want[bucketKey][len(again):]
			want[bucketAlarm] = [][2][]byte{{[]byte("a"), {}}}
			checkBolt(t, db, want)
			noError(t, db.Close())
		})
	}
}

// checkBolt lets bbolt check the file, and compares the records. Every page must be of use: a new file has no free ones.
func checkBolt(t *testing.T, db *bolt.DB, want map[string][][2][]byte) {
	t.Helper()
	noError(t, db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		for _, name := range buckets {
			c, i := tx.Bucket([]byte(name)).Cursor(), 0
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if i == len(want[name]) {
					return fmt.Errorf("%s has more than %d records", name, i)
				}
				if w := want[name][i]; !bytes.Equal(k, w[0]) || !bytes.Equal(v, w[1]) {
					return fmt.Errorf("%s: record %d is another", name, i)
				}
				i++
			}
			if i != len(want[name]) {
				return fmt.Errorf("%s has %d records, want %d", name, i, len(want[name]))
			}
		}
		info, err := os.Stat(db.Path())
		if err == nil && info.Size() < tx.Size() {
			err = fmt.Errorf("the file has %d bytes and should have %d", info.Size(), tx.Size())
		}
		return err
	}))
}

func TestRecordsThatBboltWouldRefuseAreRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	w, err := Create(path)
	noError(t, err)
	noError(t, w.Put(bucketKey, []byte("b"), nil))
	for says, c := range map[string]struct {
		bucket, key string
		want        error
	}{
		"no key":            {bucketKey, "", bolterrors.ErrKeyRequired},
		"a long key":        {bucketKey, string(make([]byte, bolt.MaxKeySize+1)), bolterrors.ErrKeyTooLarge},
		"the same key":      {bucketKey, "b", ErrInvalid},
		"a key before":      {bucketKey, "a", ErrInvalid},
		"an unknown bucket": {"buckets", "a", ErrInvalid},
	} {
		if err := w.Put(c.bucket, []byte(c.key), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", says, err, c.want)
		}
	}
	noError(t, w.Abandon())
	if f, err := Open(path); err == nil {
		t.Error("a file that was abandoned opens")
		noError(t, f.Close())
	}
	noError(t, os.WriteFile(path, []byte("x"), 0o600))
	if _, err := Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file with content: %v", err)
	}
}
