package mvcc

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestACRCOfTwoPartsIsJoined(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 255, 256, 257, 65535, 65536, 70_001, 1 << 24, 1<<24 + 3} {
		text := make([]byte, n+100)
		for i := range text {
			text[i] = byte(r.Uint32())
		}
		a, b := crc32.Checksum(text[:100], castagnoli), crc32.Checksum(text[100:], castagnoli)
		if got, want := crcJoin(a, b, uint32(n)), crc32.Checksum(text, castagnoli); got != want {
			t.Errorf("with %d bytes behind: %x, want %x", n, got, want)
		}
	}
}

func schedule(t *testing.T, s *Store, rev int64) {
	t.Helper()
	entry(t, s, func(w *Writer) {
		if err := w.ScheduleCompact(rev); err != nil {
			t.Fatal(err)
		}
	})
}

func hashAt(t *testing.T, s *Store, rev int64) Hash {
	t.Helper()
	hash, compactRev, hashRev, err := s.HashKV(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	return Hash{hash, compactRev, hashRev}
}

func putTimes(t *testing.T, s *Store, key string, n int) {
	t.Helper()
	for range n {
		put(t, s, key, "value")
	}
}

func TestTheHashesOfTheLastTenCompactionsAreKept(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	putTimes(t, s, "a", 30)
	var want []Hash
	for rev := int64(0); rev < 13; rev++ {
		h := hashAt(t, s, rev)
		if rev == 0 {
			h = Hash{crc32.Checksum([]byte("key"), castagnoli), -1, 0} // asked for, 0 is the current revision
		}
		want = append([]Hash{h}, want...)
		compact(t, s, rev)
	}
	want = want[:keptMax]
	if got := s.CompactHashes(); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	for _, h := range want {
		if got := hashAt(t, s, h.Revision); got != h {
			t.Errorf("at %d: %v, want %v", h.Revision, got, h)
		}
	}
	if _, _, _, err := s.HashKV(t.Context(), 2); !errors.Is(err, ErrCompacted) {
		t.Errorf("the eleventh: %v, want that it is compacted", err)
	}
	if got := hashAt(t, s, -3); got != (Hash{crc32.Checksum([]byte("key"), castagnoli), 12, -3}) {
		t.Errorf("at a negative revision: %v", got)
	}
}

func TestCompactionsThatWaitGetTheirHashesInOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	putTimes(t, s, "a", 10)
	putTimes(t, s, "b", 10)
	at5 := hashAt(t, s, 5)
	schedule(t, s, 5)
	at12 := hashAt(t, s, 12)
	schedule(t, s, 12)
	at18 := hashAt(t, s, 18)
	compact(t, s, 18)
	if got, want := s.CompactHashes(), []Hash{at18, at12, at5}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

// Found by test/differential. etcd leaves superseded versions out of a hash only while there is something to keep; a
// compaction also keeps the tombstones of its own revision, which HashKV does not.
func TestACompactionToTheLastDeletionKeepsAHashOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "1") // revisions 2 and 3
	compact(t, s, 3)
	del(t, s, "a", "\x00")
	asked := hashAt(t, s, 4)
	compact(t, s, 4)
	kept := hashAt(t, s, 4)
	if kept.Compact != 3 || kept.Revision != 4 {
		t.Fatalf("kept %+v", kept)
	}
	if kept.Hash == asked.Hash {
		t.Errorf("the compaction keeps %08x as HashKV before it: the versions of 2 and 3 count in one of them alone", kept.Hash)
	}
	sum := []byte("key")
	for sub, key := range []string{"a", "b"} {
		sum = binary.BigEndian.AppendUint64(sum, 4)
		sum = append(sum, '_')
		sum = binary.BigEndian.AppendUint64(sum, uint64(sub))
		sum = append(sum, 't', 10, 1)
		sum = append(sum, key...)
	}
	if want := crc32.Checksum(sum, castagnoli); kept.Hash != want {
		t.Errorf("the compaction keeps %08x, want %08x of the two tombstones", kept.Hash, want)
	}
}

// Found by test/differential, as the one above: a key that the revision itself deletes and puts again is not one that
// etcd's HashKV keeps.
func TestAKeyPutAgainInTheRevisionHashedIsNotKept(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1") // revision 2
	compact(t, s, 2)
	entry(t, s, func(w *Writer) {
		if _, err := w.DeleteRange([]byte("a"), fromKeyOn, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.PutBlind([]byte("a"), []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
	})
	v, err := s.View(3)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want, err := v.hashCounting(t.Context(), 2, hashRecordsMax) // with the version of revision 2
	if err != nil {
		t.Fatal(err)
	}
	if got := hashAt(t, s, 3); got.Hash != want {
		t.Errorf("%08x, want %08x", got.Hash, want)
	}
	put(t, s, "b", "1")
	if n, err := v.putAgain(4); n != 0 || err != nil {
		t.Errorf("at a put alone: %d, %v", n, err)
	}
}

func TestALargeStoreKeepsHashesOnlyWhenTold(t *testing.T) {
	t.Parallel()
	for name, always := range map[string]bool{"not told": false, "told": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			if always {
				s.KeepHashes()
			}
			w := s.NewWriter()
			for i := range hashLiveMax + 1 {
				w.Begin()
				if err := w.PutBlind(benchKey(i), nil, 0); err != nil {
					t.Fatal(err)
				}
				w.End()
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			want := hashAt(t, s, 7)
			compact(t, s, 7)
			if !always {
				want.Compact = 7
			}
			if got := hashAt(t, s, 7); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestAHashEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	putTimes(t, s, "a", 3)
	schedule(t, s, 2)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CompactStep(ended, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("a compaction that keeps a hash: %v", err)
	}
	compact(t, s, 3)
	if n := len(s.CompactHashes()); n != 2 {
		t.Errorf("%d hashes are kept after it went on, want 2", n)
	}
}

// TestACompactionLooksOnlyAtWhatItCompacts counts history records looked at by the slices that are needed.
func TestACompactionLooksOnlyAtWhatItCompacts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const slice = 10
	slices := func(rev int64) (n int) {
		schedule(t, s, rev)
		for done := false; !done; n++ {
			var err error
			if done, err = s.CompactStep(t.Context(), slice); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for _, key := range []string{"a", "b"} {
		putTimes(t, s, key, 1000)
	}
	slices(s.Revision())
	for _, updates := range []int{1, 55, 400} {
		putTimes(t, s, "a", updates)
		// Each slice begins with the record that the one before ended with, the first with the last compaction's.
		want := updates/(slice-1) + 1
		if got := slices(s.Revision()); got > want {
			t.Errorf("%d updates took %d slices of %d, want %d", updates, got, slice, want)
		}
	}
}
