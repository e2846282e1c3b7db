package member

import (
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// The places of a member's files below its data directory "data".
const (
	rootPath     = "data/ashlar"
	identityPath = rootPath + "/IDENTITY"
	logPath      = rootPath + "/log"
	statePath    = rootPath + "/state-0000000000000001"
)

// found is a case of the table in docs/format/data-dir.md: what a start makes of what it finds.
type found struct {
	prepare func(t *testing.T, disk *vfs.MemFS)
	refused error    // nil: the member starts
	names   []string // what the refusal must name
	kept    string   // the directory that a refusal must not touch
	founds  bool     // a new member is founded
}

func remove(names ...string) func(*testing.T, *vfs.MemFS) {
	return func(t *testing.T, disk *vfs.MemFS) {
		t.Helper()
		for _, name := range names {
			if err := disk.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ofAnother replaces a directory by that of another member, founded alike.
func ofAnother(dir string) func(*testing.T, *vfs.MemFS) {
	return func(t *testing.T, disk *vfs.MemFS) {
		t.Helper()
		replace(t, founded(t), dir, disk, dir)
	}
}

func identityFile(change func(text string) string) func(*testing.T, *vfs.MemFS) {
	return func(t *testing.T, disk *vfs.MemFS) {
		t.Helper()
		writeFile(t, disk, identityPath, change(readFile(t, disk, identityPath)))
	}
}

// newerFormat makes the IDENTITY file one of a newer release, with lines of its own.
func newerFormat(text string) string {
	text = strings.Replace(text[:strings.Index(text, "crc=")], "format=1", "format=2", 1) + "colour=blue\n"
	return text + fmt.Sprintf("crc=%08x\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

func identityOfAnother(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	id, _, err := storage.ReadIdentityFile(disk, "data")
	if err != nil {
		t.Fatal(err)
	}
	id.StoreID[0] ^= 1
	if err := storage.WriteIdentityFile(disk, "data", id); err != nil {
		t.Fatal(err)
	}
}

// stateOfNewerFormat gives the state an identity record whose format nobody knows yet.
func stateOfNewerFormat(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	db, err := storage.OpenState(statePath, storage.Options{FS: disk, Logger: configOf(t, disk, alone).Logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stampIdentity(db, storage.Identity{Format: storage.StateFormat + 1}), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// bootstrapBrokeOff leaves what a crash before the commit point may leave, and more.
func bootstrapBrokeOff(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	remove(identityPath, logPath, statePath)(t, disk)
	o := storage.Options{FS: disk, Logger: configOf(t, disk, alone).Logger}
	for _, generation := range []uint64{1, 9} {
		db, err := createGeneration(disk, "data", generation, storage.Identity{Format: 1, MemberID: 5}, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, disk, identityPath+".tmp", "format")
}

// olderState restores the state of the time before the log was cut.
func olderState(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	before := copyOf(disk)
	m := open(t, configOf(t, disk, alone))
	step(m)
	for i := range 20 {
		putStepped(t, m, "k", fmt.Sprint(i))
	}
	if err := errors.Join(m.Flush(), m.CutLog()); err != nil {
		t.Fatal(err)
	}
	stop(t, m)
	replace(t, before, statePath, disk, statePath)
}

// olderLog restores the log of an earlier time.
func olderLog(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	before := copyOf(disk)
	m := start(t, configOf(t, disk, alone))
	put(t, m, "k", "newer")
	stop(t, m)
	replace(t, before, logPath, disk, logPath)
}

// leftOver is a generation that the log does not name.
const leftOver = 7

func writeLeftOver(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	dir := storage.StateDir("data", leftOver)
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, disk, dir+"/000001.sst", "part of a state")
}

var finds = map[string]found{
	"nothing: a member is founded":                  {prepare: remove(rootPath), founds: true},
	"a bootstrap broke off before its commit point": {prepare: bootstrapBrokeOff, founds: true},
	"a crash between the log's commit and IDENTITY": {prepare: remove(identityPath)},
	"everything":                                         {prepare: remove()},
	"a state that the log does not name":                 {prepare: writeLeftOver},
	"the log is lost":                                    {prepare: remove(logPath), refused: ErrRefused, names: []string{"data", logPath}, kept: statePath},
	"the state is lost":                                  {prepare: remove(statePath), refused: ErrRefused, names: []string{statePath}},
	"the log is another member's":                        {prepare: ofAnother(logPath), refused: ErrRefused, names: []string{"data", logPath}, kept: statePath},
	"the state is another member's":                      {prepare: ofAnother(statePath), refused: ErrRefused, names: []string{statePath, logPath}},
	"IDENTITY is another member's":                       {prepare: identityOfAnother, refused: ErrRefused, names: []string{"data", logPath}, kept: statePath},
	"IDENTITY cannot be read":                            {prepare: identityFile(func(string) string { return "?" }), refused: storage.ErrCorrupt, names: []string{identityPath}, kept: rootPath},
	"IDENTITY is empty":                                  {prepare: identityFile(func(string) string { return "" }), refused: storage.ErrCorrupt, names: []string{identityPath}, kept: rootPath},
	"IDENTITY has a wrong crc":                           {prepare: identityFile(func(s string) string { return strings.Replace(s, "format=1", "format=3", 1) }), refused: storage.ErrCorrupt, names: []string{identityPath}, kept: rootPath},
	"IDENTITY was written by a newer release":            {prepare: identityFile(newerFormat), refused: storage.ErrNewerFormat, names: []string{identityPath}, kept: rootPath},
	"the state was written by a newer release":           {prepare: stateOfNewerFormat, refused: storage.ErrNewerFormat, names: []string{statePath}},
	"a state in use, but neither IDENTITY nor log":       {prepare: remove(identityPath, logPath), refused: ErrRefused, names: []string{statePath}},
	"the log begins after what the state has applied":    {prepare: olderState, refused: ErrRefused, names: []string{statePath, logPath}},
	"the log ends before what the state has applied":     {prepare: olderLog, refused: ErrRefused, names: []string{statePath, logPath}},
	"the log ends too early and there is no IDENTITY":    {prepare: func(t *testing.T, d *vfs.MemFS) { olderLog(t, d); remove(identityPath)(t, d) }, refused: ErrRefused, names: []string{statePath, logPath}},
	"the state is another member's, there is no stamp":   {prepare: func(t *testing.T, d *vfs.MemFS) { ofAnother(statePath)(t, d); remove(identityPath)(t, d) }, refused: ErrRefused, names: []string{statePath, logPath}},
	"a restore did not finish":                           {prepare: func(t *testing.T, d *vfs.MemFS) { writeFile(t, d, rootPath+"/"+storage.RestoringName, "") }, refused: ErrRefused, names: []string{"data"}, kept: rootPath},
	"the state is lost, and a crash was before IDENTITY": {prepare: remove(identityPath, statePath), refused: ErrRefused, names: []string{statePath}},
}

func TestAStartDecidesByWhatItFinds(t *testing.T) {
	t.Parallel()
	base := founded(t)
	want, _, err := storage.ReadIdentityFile(base, "data")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range finds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := copyOf(base)
			c.prepare(t, disk)
			if c.refused != nil {
				checkRefused(t, disk, c)
				return
			}
			m := start(t, configOf(t, disk, alone))
			if got := get(t, m, "k"); (got == "") != c.founds || got != "" && got != "v" {
				t.Errorf("k is %q", got)
			}
			stop(t, m)
			got, known, err := storage.ReadIdentityFile(disk, "data")
			if err != nil || !known || (got != want) != c.founds {
				t.Errorf("IDENTITY says %v, %v, %v; before %v", got, known, err, want)
			}
			if all, err := storage.ListGenerations(disk, "data"); err != nil || !slices.Equal(all, []uint64{1}) {
				t.Errorf("states %v, %v; want the first alone", all, err)
			}
		})
	}
}

// checkRefused wants the refusal twice: the first one must not have changed what it decided by.
func checkRefused(t *testing.T, disk *vfs.MemFS, c found) {
	t.Helper()
	writeLeftOver(t, disk)
	before := contents(t, disk, rootPath)
	for range 2 {
		m, err := Open(configOf(t, disk, alone))
		if err == nil {
			stop(t, m)
			t.Fatal("the member starts")
		}
		if !errors.Is(err, c.refused) {
			t.Errorf("got %v, want one that wraps %v", err, c.refused)
		}
		for _, n := range c.names {
			if !strings.Contains(err.Error(), n) {
				t.Errorf("%v does not name %s", err, n)
			}
		}
	}
	after := contents(t, disk, rootPath)
	if c.kept != "" && !maps.Equal(below(before, c.kept), below(after, c.kept)) {
		t.Errorf("%s was changed", c.kept)
	}
	if got := below(after, storage.StateDir("data", leftOver)); len(got) == 0 {
		t.Error("the other state was removed before everything was checked")
	}
	if before[identityPath] != after[identityPath] {
		t.Error("IDENTITY was changed")
	}
}

// below returns the files below dir.
func below(files map[string]string, dir string) map[string]string {
	out := maps.Clone(files)
	maps.DeleteFunc(out, func(name, _ string) bool { return !strings.HasPrefix(name, dir+"/") })
	return out
}

// TestNobodyIsToldOfTheMembersBeforeTheyAreKnownAgain: after a crash the state on the disk is older than what this member has told before.
func TestNobodyIsToldOfTheMembersBeforeTheyAreKnownAgain(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := start(t, configOf(t, disk, alone))
	put(t, m, "a", "v")
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	stop(t, m)
	m = open(t, configOf(t, crashed, alone))
	defer stop(t, m)
	ask := m.Answers().Members
	if ms, err := ask(); err == nil {
		t.Errorf("before the replay it tells of %v", ms.Members())
	}
	m.Start()
	<-m.Ready()
	if ms, err := ask(); err != nil || ms.Len() != 1 || len(ms.Members()[0].ClientURLs) != 1 {
		t.Errorf("after it: %v", err)
	}
}
