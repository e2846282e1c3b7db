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
	if err := l.Renew(before.Generation + 1); err != nil {
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
