package raftlog

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestARenewedLogNamesTheOtherStateAndKeepsItsEntries(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	l := bootstrapped(t, fs, 5, Options{})
	before, last, hs := l.Mark(), l.LastIndex(), l.HardState()
	if err := l.Renew(before.Generation+1, last+1); err == nil {
		t.Error("a state ahead of the log was taken")
	}
	if err := l.Renew(before.Generation+1, last-1); err != nil {
		t.Fatal(err)
	}
	want := before
	want.Generation++
	crashed := fs.CrashClone(vfs.CrashCloneCfg{}) // nothing unsynced is left
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, disk := range map[string]*vfs.MemFS{"after a stop": fs, "after a crash": crashed} {
		l := open(t, disk, Options{})
		if l.Mark() != want || l.LastIndex() != last || l.HardState() != hs {
			t.Errorf("%s: mark %+v, last %d, hard state %+v; want %+v, %d, %+v", name, l.Mark(), l.LastIndex(), l.HardState(), want, last, hs)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestALogThatWasCutNamesNoStateBelowItsMark(t *testing.T) {
	t.Parallel()
	l := bootstrapped(t, vfs.NewCrashableMem(), 5, Options{})
	if err := l.Cut(3); err != nil {
		t.Fatal(err)
	}
	before := l.Mark()
	if err := l.Renew(before.Generation+1, before.Index-1); err == nil || l.Mark() != before {
		t.Errorf("error %v, mark %+v: the next start would refuse it", err, l.Mark())
	}
	if err := l.Renew(before.Generation+1, before.Index); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
