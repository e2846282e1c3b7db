package raftlog

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// adopted stages entries 5 to 9 and replaces those from 8 on.
func adopted(t *testing.T, l *Log) *Adoption {
	t.Helper()
	a, err := l.Adopt()
	must(t, err)
	must(t, a.Add(run(1, 4, 1)))
	must(t, a.Reset())
	must(t, a.Add(run(5, 8, 1)))
	must(t, a.Add(run(8, 10, 1)))
	must(t, a.Add(append(run(8, 12, 2), run(9, 11, 3)...)))
	return a
}

var adoptedMark = Mark{Index: 4, Term: 1, Generation: 1}

func TestALogIsAdoptedAndStaysSo(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	l := open(t, fs, Options{TailBytes: 1})
	a := adopted(t, l)
	must(t, a.Commit(testIdentity, HardState{Term: 4, Vote: 8, Commit: 8}, adoptedMark))
	want := append(run(5, 8, 1), append(run(8, 9, 2), run(9, 11, 3)...)...)
	wantLog(t, l, adoptedMark, want)
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	must(t, l.Append(nil, run(11, 13, 4), true))
	wantLog(t, l, adoptedMark, append(want, run(11, 13, 4)...))
	must(t, l.Close())
	l = open(t, crashed, Options{})
	wantLog(t, l, adoptedMark, want)
	if hs := l.HardState(); hs != (HardState{Term: 4, Vote: 8, Commit: 8}) || l.Identity() != testIdentity {
		t.Errorf("hard state %+v of %v", hs, l.Identity())
	}
	if _, err := l.Adopt(); !errors.Is(err, errMisuse) {
		t.Errorf("a second adoption: %v", err)
	}
	must(t, l.Close())
}

func TestAnAdoptionWithoutEntriesLeavesTheMark(t *testing.T) {
	t.Parallel()
	l := open(t, vfs.NewMem(), Options{})
	a, err := l.Adopt()
	must(t, err)
	must(t, a.Commit(testIdentity, HardState{Term: 4, Commit: 4}, adoptedMark))
	wantLog(t, l, adoptedMark, nil)
	must(t, l.Append(nil, run(5, 6, 4), true))
	must(t, l.Close())
}

func TestAnAdoptionThatBreaksOffLeavesANewLog(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	l := open(t, fs, Options{})
	adopted(t, l)
	must(t, l.Close())
	l = open(t, fs, Options{})
	if l.Initialised() {
		t.Fatal("it is initialised")
	}
	t.Run("which can be bootstrapped", func(t *testing.T) {
		must(t, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 2}, run(1, 3, 1), 1))
		wantLog(t, l, Mark{Generation: 1}, run(1, 3, 1))
		must(t, l.Close())
	})
}

func TestAnAdoptionRefusesGaps(t *testing.T) {
	t.Parallel()
	l := open(t, vfs.NewMem(), Options{})
	a := adopted(t, l)
	for name, err := range map[string]error{
		"a gap":                      a.Add(run(12, 13, 3)),
		"an entry before the first":  a.Add(run(4, 5, 3)),
		"a mark that is not next":    a.Commit(testIdentity, HardState{Term: 3}, Mark{Index: 3}),
		"a commit that is not there": a.Commit(testIdentity, HardState{Term: 3, Commit: 11}, adoptedMark),
	} {
		if !errors.Is(err, errMisuse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, l.Close())
}
