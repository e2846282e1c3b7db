package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const testDir = "data/ashlar/log"

var testIdentity = storage.Identity{Format: storage.FormatVersion, ClusterID: 7, MemberID: 8, StoreID: [16]byte{9}}

// entry returns an entry whose data says which one it is.
func entry(index, term uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: proto.Uint64(index), Term: proto.Uint64(term), Type: raftpb.EntryNormal.Enum(),
		Data: fmt.Appendf(nil, "entry %d of term %d %s", index, term, strings.Repeat("x", int(index*7%90)))}
}

// run returns entries [lo, hi) of a term.
func run(lo, hi, term uint64) (es []*raftpb.Entry) {
	for ; lo < hi; lo++ {
		es = append(es, entry(lo, term))
	}
	return es
}

// open opens the log and closes it with the test; a failure of the log fails the test.
func open(t testing.TB, fs storage.FS, o Options) *Log {
	t.Helper()
	o.Storage.FS = fs
	if o.Storage.Fatal == nil {
		o.Storage.Fatal = func(err error) { t.Errorf("fatal: %v", err) }
	}
	l, err := Open(testDir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bootstrapped is open of a new log with n entries of term 1.
func bootstrapped(t testing.TB, fs storage.FS, n uint64, o Options) *Log {
	t.Helper()
	l := open(t, fs, o)
	must(t, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: n}, run(1, n+1, 1), 1))
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantLog checks everything that can be read against the entries that should be there.
func wantLog(t testing.TB, l *Log, mark Mark, want []*raftpb.Entry) {
	t.Helper()
	must(t, l.Verify())
	if l.Mark() != mark || l.FirstIndex() != mark.Index+1 || l.LastIndex() != mark.Index+uint64(len(want)) {
		t.Fatalf("mark %+v, first %d, last %d; want mark %+v and %d entries", l.Mark(), l.FirstIndex(), l.LastIndex(), mark, len(want))
	}
	if term, err := l.Term(mark.Index); err != nil || term != mark.Term {
		t.Fatalf("the term of the mark is %d, %v", term, err)
	}
	got, err := l.Entries(mark.Index+1, l.LastIndex()+1, 1<<40)
	must(t, err)
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Fatalf("entry %v, want %v", got[i], want[i])
		}
		if term, err := l.Term(want[i].GetIndex()); err != nil || term != want[i].GetTerm() {
			t.Fatalf("the term of %d is %d, %v", want[i].GetIndex(), term, err)
		}
	}
}

func TestWhatWasWrittenIsReadBackBeforeAndAfterAReopen(t *testing.T) {
	t.Parallel()
	join := func(es ...[]*raftpb.Entry) (all []*raftpb.Entry) {
		for _, e := range es {
			all = append(all, e...)
		}
		return all
	}
	cases := map[string]struct {
		do   func(t *testing.T, l *Log)
		mark Mark
		want []*raftpb.Entry
		hs   HardState
	}{
		"a bootstrap": {func(*testing.T, *Log) {}, Mark{Generation: 1}, run(1, 4, 1), HardState{1, 0, 3}},
		"entries and a hard state": {func(t *testing.T, l *Log) {
			must(t, l.Append(&HardState{2, 8, 5}, run(4, 30, 2), true))
		}, Mark{Generation: 1}, join(run(1, 4, 1), run(4, 30, 2)), HardState{2, 8, 5}},
		"a commit index alone, without a sync": {func(t *testing.T, l *Log) {
			must(t, l.Append(&HardState{1, 0, 2}, nil, false))
		}, Mark{Generation: 1}, run(1, 4, 1), HardState{1, 0, 2}},
		"an overwritten tail": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, run(4, 100, 2), true))
			must(t, l.Append(nil, run(50, 53, 3), true))
		}, Mark{Generation: 1}, join(run(1, 4, 1), run(4, 50, 2), run(50, 53, 3)), HardState{1, 0, 3}},
		"a tail overwritten inside one append": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, join(run(4, 20, 2), run(10, 12, 3), run(11, 14, 4)), true))
		}, Mark{Generation: 1}, join(run(1, 4, 1), run(4, 10, 2), run(10, 11, 3), run(11, 14, 4)), HardState{1, 0, 3}},
		"an append that goes back below its own first entry": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, join(run(4, 20, 2), run(3, 6, 3)), true))
		}, Mark{Generation: 1}, join(run(1, 3, 1), run(3, 6, 3)), HardState{1, 0, 3}},
		"a cut": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, run(4, 100, 2), true))
			must(t, l.Cut(60))
			must(t, l.Cut(50))
		}, Mark{60, 2, 1}, run(61, 100, 2), HardState{1, 0, 3}},
		"a cut up to the last entry and an append": {func(t *testing.T, l *Log) {
			must(t, l.Cut(3))
			must(t, l.Append(nil, run(4, 7, 2), true))
		}, Mark{3, 1, 1}, run(4, 7, 2), HardState{1, 0, 3}},
		"a cut of everything": {func(t *testing.T, l *Log) {
			must(t, l.Cut(3))
		}, Mark{3, 1, 1}, nil, HardState{1, 0, 3}},
		"an overwritten tail down to the mark": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, run(4, 100, 2), true))
			must(t, l.Cut(60))
			must(t, l.Append(nil, run(61, 63, 3), true))
		}, Mark{60, 2, 1}, run(61, 63, 3), HardState{1, 0, 3}},
		"an installed snapshot": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, run(4, 100, 2), true))
			must(t, l.Install(Mark{1000, 5, 2}, HardState{5, 1, 1000}, nil))
		}, Mark{1000, 5, 2}, nil, HardState{5, 1, 1000}},
		"an installed snapshot below the last entry, and entries with it": {func(t *testing.T, l *Log) {
			must(t, l.Append(nil, run(4, 100, 2), true))
			must(t, l.Install(Mark{50, 5, 2}, HardState{5, 1, 50}, run(51, 53, 5)))
			must(t, l.Append(nil, run(53, 60, 6), true))
		}, Mark{50, 5, 2}, join(run(51, 53, 5), run(53, 60, 6)), HardState{5, 1, 50}},
	}
	for name, c := range cases {
		for _, tail := range []int{0, 1, 2000} { // 1: only the last entry is in memory
			t.Run(fmt.Sprintf("%s, tail of %d bytes", name, tail), func(t *testing.T) {
				t.Parallel()
				fs := vfs.NewMem()
				l := bootstrapped(t, fs, 3, Options{TailBytes: tail})
				c.do(t, l)
				for range 2 {
					wantLog(t, l, c.mark, c.want)
					if l.HardState() != c.hs || l.Identity() != testIdentity || !l.Initialised() {
						t.Fatalf("hard state %+v, identity %v", l.HardState(), l.Identity())
					}
					must(t, l.Close())
					l = open(t, fs, Options{TailBytes: tail})
				}
				must(t, l.Close())
			})
		}
	}
}

func TestEntriesFitIntoTheBytesAskedFor(t *testing.T) {
	t.Parallel()
	for _, tail := range []int{1, 3000, 0} {
		l := bootstrapped(t, vfs.NewMem(), 60, Options{TailBytes: tail})
		all := run(1, 61, 1)
		for lo := uint64(1); lo <= 60; lo += 3 {
			for _, hi := range []uint64{lo + 1, lo + 9, 61} {
				hi = min(hi, 61)
				for _, maxBytes := range []uint64{0, 1, 100, 200, 1000, 1 << 30} {
					got, err := l.Entries(lo, hi, maxBytes)
					must(t, err)
					n, size := 0, 0
					for _, e := range all[lo-1 : hi-1] {
						if size += proto.Size(e); n > 0 && uint64(size) > maxBytes {
							break
						}
						n++
					}
					if len(got) != n || got[0].GetIndex() != lo {
						t.Fatalf("tail %d: Entries(%d, %d, %d) gives %d entries, want %d", tail, lo, hi, maxBytes, len(got), n)
					}
				}
			}
		}
		must(t, l.Close())
	}
}

func TestIndexesOutsideTheLogAreToldApart(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewMem(), 20, Options{TailBytes: 500})
	must(t, l.Cut(5))
	for _, c := range []struct {
		lo, hi uint64
		want   error
	}{{5, 8, ErrCompacted}, {1, 30, ErrCompacted}, {6, 22, ErrUnavailable}, {21, 22, ErrUnavailable}, {6, 21, nil}, {21, 21, nil}} {
		if _, err := l.Entries(c.lo, c.hi, 1<<30); !errors.Is(err, c.want) {
			t.Errorf("Entries(%d, %d): %v, want %v", c.lo, c.hi, err, c.want)
		}
	}
	for i, want := range map[uint64]error{4: ErrCompacted, 5: nil, 6: nil, 20: nil, 21: ErrUnavailable} {
		if _, err := l.Term(i); !errors.Is(err, want) {
			t.Errorf("Term(%d): %v, want %v", i, err, want)
		}
	}
	for name, err := range map[string]error{
		"an append above the last":    l.Append(nil, run(22, 23, 2), true),
		"an append at the mark":       l.Append(nil, run(5, 30, 2), true),
		"an append with a hole":       l.Append(nil, []*raftpb.Entry{entry(21, 2), entry(23, 2)}, true),
		"a cut above the last":        l.Cut(21),
		"a second bootstrap":          l.Bootstrap(testIdentity, HardState{}, nil, 1),
		"an installation with a hole": l.Install(Mark{100, 2, 2}, HardState{}, run(102, 103, 2)),
	} {
		if !errors.Is(err, errMisuse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantLog(t, l, Mark{5, 1, 1}, run(6, 21, 1))
	must(t, l.Close())
}

// TestEntriesToBeAppliedStayInMemory beyond the bound of the tail, up to one of their own.
func TestEntriesToBeAppliedStayInMemory(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewMem(), 1, Options{TailBytes: 10_000})
	l.tail.unsettledMax = 100_000
	held := func(when string, atLeast, bytesMax int) {
		t.Helper()
		if n := len(l.tail.entries); n < atLeast || l.tail.bytes > bytesMax || l.tail.get(l.LastIndex()) == nil {
			t.Errorf("%s: %d entries of %d bytes up to %d are in memory", when, n, l.tail.bytes, l.LastIndex())
		}
	}
	l.Settled(1)
	must(t, l.Append(nil, run(2, 302, 1), true))
	held("all to be applied", 300, 100_000)
	l.Settled(101)
	held("the first third applied", 200, 80_000)
	if l.tail.get(2) != nil {
		t.Error("an entry that is applied is still in memory")
	}
	l.Settled(301)
	held("all applied", 1, 10_000)
	must(t, l.Append(nil, run(302, 1302, 1), true))
	held("too many to be applied", 301, 100_000)
	must(t, l.Close())
}

func TestTheTailIsBoundedAndKeepsTheNewest(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewMem(), 1, Options{TailBytes: 10_000})
	for i := uint64(2); i < 1000; i++ {
		must(t, l.Append(nil, run(i, i+1, 1), false))
		if l.tail.bytes > 10_000 || l.tail.get(i) == nil {
			t.Fatalf("%d bytes in the tail, entry %d is %v", l.tail.bytes, i, l.tail.get(i))
		}
	}
	big := entry(1000, 1)
	big.Data = bytes.Repeat([]byte("b"), 50_000)
	must(t, l.Append(nil, []*raftpb.Entry{big}, true))
	if len(l.tail.entries) != 1 || l.tail.get(1000) != big {
		t.Fatalf("the tail has %d entries", len(l.tail.entries))
	}
	must(t, l.Close())
}

func TestTheTailHoldsNoMoreEntriesThanAnyoneAsksFor(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewMem(), 1, Options{})
	last := uint64(1)
	for _, n := range []uint64{1000, tailEntries, 1, 2 * tailEntries, 7} {
		must(t, l.Append(nil, run(last+1, last+1+n, 1), false))
		last += n
		if len(l.tail.entries) > tailEntries || l.tail.get(last) == nil {
			t.Fatalf("after %d more the tail has %d entries, and of the last one %v", n, len(l.tail.entries), l.tail.get(last))
		}
	}
	wantLog(t, l, Mark{Generation: 1}, run(1, last+1, 1))
	must(t, l.Close())
}
