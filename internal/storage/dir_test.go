package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var testIdentity = Identity{Format: FormatVersion, ClusterID: 0xcdf818194e3a8c32, MemberID: 7, StoreID: [16]byte{1, 2, 0xff}}

func TestTheIdentityIsReadBackAndDamageIsNoticed(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	lock, err := LockDir(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, found, err := ReadIdentityFile(fs, "data"); found || err != nil {
		t.Fatalf("in a new directory: %v, %v", found, err)
	}
	if err := WriteIdentityFile(fs, "data", testIdentity); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if id, found, err := ReadIdentityFile(crashed, "data"); id != testIdentity || !found || err != nil {
		t.Fatalf("after a crash: %v, %v, %v", id, found, err)
	}
	text := identityText(testIdentity)
	want := "format=1\ncluster=cdf818194e3a8c32\nmember=0000000000000007\nstore=0102ff00000000000000000000000000\ncrc="
	if !strings.HasPrefix(string(text), want) {
		t.Fatalf("the file is\n%s", text)
	}
	for at := range text {
		for bit := range 8 {
			damaged := slices.Clone(text)
			damaged[at] ^= 1 << bit
			if id, err := parseIdentity(damaged); err == nil {
				t.Fatalf("a flip of bit %d at %d gives %v", bit, at, id)
			}
		}
		if id, err := parseIdentity(text[:at]); err == nil {
			t.Fatalf("%d bytes give %v", at, id)
		}
	}
	if err := writeFile(fs, Root("data")+"/IDENTITY", text[1:]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadIdentityFile(fs, "data"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "data/ashlar/IDENTITY") {
		t.Fatalf("damaged: %v", err)
	}
}

// TestADirectoryIsDurableAlsoAfterAStartThatBrokeOff: the start after it finds directories of which it does not know whether a crash
// leaves them.
func TestADirectoryIsDurableAlsoAfterAStartThatBrokeOff(t *testing.T) {
	t.Parallel()
	dir := LogDir("disk/data", "")
	for syncs := range 6 {
		fs := vfs.NewCrashableMem()
		left, killed := syncs, errors.New("killed")
		err := MakeDirs(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind != errorfs.OpOpenDir {
				return nil
			}
			if left--; left < 0 {
				return killed
			}
			return nil
		})), dir)
		if err != nil && !errors.Is(err, killed) {
			t.Fatal(err)
		}
		if err := MakeDirs(fs, dir); err != nil {
			t.Fatal(err)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		if there, err := Exists(crashed, dir); !there || err != nil {
			t.Errorf("a start ended after %d syncs, the next one did not: after a crash the directory is there: %v, %v", syncs, there, err)
		}
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	newer := testIdentity
	newer.Format = FormatVersion + 1
	if _, err := DecodeIdentity(newer.Encode()); !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("record: %v", err)
	}
	fs := vfs.NewMem()
	if err := MakeDirs(fs, Root("data")); err != nil {
		t.Fatal(err)
	}
	if err := WriteIdentityFile(fs, "data", newer); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadIdentityFile(fs, "data"); !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("file: %v", err)
	}
	// A database of a newer Pebble is refused by Pebble: nothing is written into it.
	db, err := OpenState("data/state", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPebbleLog("data/state", Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "data/state") {
		t.Fatalf("a state opened as a log: %v", err)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(testIdentity.Encode())
	f.Add(identityText(testIdentity))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := DecodeIdentity(b); err == nil {
			if back, err := DecodeIdentity(id.Encode()); err != nil || back != id {
				t.Fatalf("%x: %v, %v, %v", b, id, back, err)
			}
		}
		if id, err := parseIdentity(b); err == nil {
			if back, err := parseIdentity(identityText(id)); err != nil || back != id {
				t.Fatalf("%q: %v, %v, %v", b, id, back, err)
			}
		}
	})
}

func FuzzDecodeKeys(f *testing.F) {
	f.Add(AppendDataKey(nil, []byte("user"), 5, 6))
	f.Add(AppendDataKey(nil, nil, 5, 0))
	f.Add(AppendRevKey(nil, SpaceHistory, 1, 2))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if user, main, sub, ok := DecodeDataKey(b); ok && string(AppendDataKey(nil, user, main, sub)) != string(b) {
			t.Fatalf("%x is %q %d.%d", b, user, main, sub)
		}
		if main, sub, ok := DecodeRevKey(b); ok && string(AppendRevKey(nil, b[0], main, sub)) != string(b) {
			t.Fatalf("%x is %d.%d", b, main, sub)
		}
		if rest := PlainRest(b); rest != nil && string(AppendPlainKey(nil, b[0], rest)) != string(b) {
			t.Fatalf("%x is %q", b, rest)
		}
	})
}

func TestGenerationsAreListedAndRemoved(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	if gens, err := ListGenerations(fs, "data"); gens != nil || err != nil {
		t.Fatalf("without a directory: %v, %v", gens, err)
	}
	for _, gen := range []uint64{0x10, 2, 1 << 63} {
		if err := MakeDirs(fs, StateDir("data", gen)); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{"log", "state-1", "state-000000000000000g"} {
		if err := MakeDirs(fs, Root("data")+"/"+other); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // removing what is gone changes nothing
		if err := RemoveGeneration(fs, "data", 0x10); err != nil {
			t.Fatal(err)
		}
	}
	if gens, err := ListGenerations(fs, "data"); !slices.Equal(gens, []uint64{2, 1 << 63}) || err != nil {
		t.Fatalf("%v, %v", gens, err)
	}
	if err := ClearRoot(fs, "data"); err != nil {
		t.Fatal(err)
	}
	if names, err := fs.List(Root("data")); len(names) != 0 || err != nil {
		t.Fatalf("%v, %v", names, err)
	}
	if got := LogDir("data", "") + " " + LogDir("data", "/wal"); got != "data/ashlar/log /wal" {
		t.Fatal(got)
	}
}

// TestMain lets the test binary be the second process of TestTwoProcessesNeverHoldOneDirectory.
func TestMain(m *testing.M) {
	if dir := os.Getenv("ASHLAR_TEST_HOLD"); dir != "" {
		os.Exit(hold(dir))
	}
	os.Exit(m.Run())
}

// hold takes the lock and the log, says so, and keeps them until its input ends.
func hold(dir string) int {
	lock, err := LockDir(vfs.Default, dir)
	if err == nil {
		defer lock.Close()
		var log io.Closer
		if log, err = LockLog(vfs.Default, LogDir(dir, ""), false); err == nil {
			defer log.Close()
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the other end is closed
	return 0
}

func TestTwoProcessesNeverHoldOneDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "ASHLAR_TEST_HOLD="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if said != "held\n" {
		t.Fatalf("the other process says %q, %v", said, err)
	}
	if _, err := LockDir(vfs.Default, dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the lock: %v", err)
	}
	if _, err := LockLog(vfs.Default, LogDir(dir, ""), false); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the log: %v", err)
	}
	// A killed process leaves no lock behind.
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
	_ = in.Close()   // with it
	lock, err := LockDir(vfs.Default, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}
