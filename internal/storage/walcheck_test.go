package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncedLog makes a log on a crashable filesystem whose write-ahead log holds n
// synced records, sealed, and returns its disk as after a power cut.
func syncedLog(t *testing.T, n int) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	// A log that was closed before, as most are.
	l := openOldLog(t, fs, "log")
	l.close(l.p.Close())
	l = openOldLog(t, fs, "log")
	for i := range n {
		l.write([]byte{1, byte(i)}, bytes.Repeat([]byte{byte(i)}, 700))
	}
	l.write(nil, nil)
	disk := fs.CrashClone(vfs.CrashCloneCfg{})
	l.close(l.p.Close())
	return disk
}

// unused says whether the byte at an offset is in the zeros that end a block.
func unused(content []byte, at int) bool {
	end := min(len(content), (at/walBlock+1)*walBlock)
	var w walWalker
	return w.fill(content[at:end])
}

// walOf returns the name and the content of the newest log file.
func walOf(t *testing.T, fs vfs.FS) (name string, content []byte) {
	t.Helper()
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".log") && n > name {
			name = n
		}
	}
	name = filepath.Join("log", name)
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if content, err = io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name, content
}

func overwrite(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestAFlippedBitInAnySyncedAndSealedRecordRefusesTheLog(t *testing.T) {
	t.Parallel()
	fs := syncedLog(t, 100)
	if err := checkWALs(fs, "log"); err != nil {
		t.Fatalf("an undamaged log is refused: %v", err)
	}
	name, good := walOf(t, fs)
	rng := rand.New(rand.NewPCG(1, 1))
	end := bytes.LastIndex(good, bytes.Repeat([]byte{99}, 700)) + 700
	for range 600 {
		at := rng.IntN(end)
		if unused(good, at) {
			continue
		}
		bad := bytes.Clone(good)
		bad[at] ^= 1 << rng.IntN(8)
		overwrite(t, fs, name, bad)
		if err := checkWALs(fs, "log"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Fatalf("a bit flipped at offset %d of %d: got %v, want ErrCorrupt that names %s", at, len(good), err, name)
		}
	}
}

func TestATornTailIsNoCorruption(t *testing.T) {
	t.Parallel()
	fs := syncedLog(t, 40)
	name, good := walOf(t, fs)
	start := len(good) - 1
	for good[start] == 0 {
		start--
	}
	// Nothing after the seal was promised: any garbage there is a torn write.
	bad := append(bytes.Clone(good[:start+1]), bytes.Repeat([]byte{0xA5}, 500)...)
	overwrite(t, fs, name, bad)
	if err := checkWALs(fs, "log"); err != nil {
		t.Errorf("a torn tail is taken for corruption: %v", err)
	}
}

// TestATornFirstRecordIsNoCorruption: of a record that begins a file and is longer than a block only some blocks are there. Its head
// tells what was synced, all of which is in earlier files.
func TestATornFirstRecordIsNoCorruption(t *testing.T) {
	t.Parallel()
	fs := syncedLog(t, 40)
	l := openOldLog(t, fs, "log")
	l.write([]byte{2}, []byte{7})
	l.close(l.p.Flush()) // begins a new file
	l.write([]byte{3}, bytes.Repeat([]byte{7}, 4*walBlock))
	disk := fs.CrashClone(vfs.CrashCloneCfg{})
	l.close(l.p.Close())
	name, content := walOf(t, disk)
	for _, length := range []int{100, walBlock, walBlock + 100, 2 * walBlock, 4*walBlock + 50} {
		overwrite(t, disk, name, content[:length])
		if err := checkWALs(disk, "log"); err != nil {
			t.Errorf("torn after %d bytes of %d: %v", length, len(content), err)
		}
	}
}

func FuzzCheckWAL(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := walWalker{number: 1, bad: -1}
		if err := w.walk(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
	})
}

// chunk makes a whole record of the log file 7: count records from a sequence number on, with a witness.
func chunk(first, count, synced uint64) []byte {
	payload := binary.LittleEndian.AppendUint64(nil, first)
	payload = binary.LittleEndian.AppendUint32(payload, uint32(count))
	payload = append(payload, batchKindLog, byte(witnessPayload))
	payload = append(payload, witnessMagic...)
	payload = binary.LittleEndian.AppendUint64(payload, synced)
	b := make([]byte, walSyncHeader, walSyncHeader+len(payload))
	binary.LittleEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6] = walSyncFirst
	binary.LittleEndian.PutUint32(b[7:], 7)
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b, walChecksum(b[6:]))
	return b
}

func TestABadRecordIsCorruptionOnlyIfALaterOneWitnessesItsSync(t *testing.T) {
	t.Parallel()
	bad := func(b []byte) []byte { b[walSyncHeader+3] ^= 1; return b }
	head := func(b []byte) []byte { // of a record that goes on in the next chunk
		b[6] = walSyncFirst + walFirst
		binary.LittleEndian.PutUint32(b, walChecksum(b[6:]))
		return b
	}
	cases := map[string]struct {
		records [][]byte
		corrupt bool
	}{
		"all good":                                {[][]byte{chunk(10, 2, 10), chunk(12, 1, 12)}, false},
		"the last one bad":                        {[][]byte{chunk(10, 2, 10), bad(chunk(12, 1, 12))}, false},
		"a bad one that was synced":               {[][]byte{chunk(10, 2, 10), bad(chunk(12, 1, 12)), chunk(13, 1, 13)}, true},
		"a bad one that was not":                  {[][]byte{chunk(10, 2, 10), bad(chunk(12, 1, 12)), chunk(13, 1, 12)}, false},
		"the first one bad, all before synced":    {[][]byte{bad(chunk(10, 2, 10)), chunk(12, 1, 12)}, true},
		"the first one bad, and not known synced": {[][]byte{bad(chunk(10, 2, 10)), chunk(12, 1, 10)}, false},
		"the head of the first one alone":         {[][]byte{head(chunk(10, 2, 10))}, false},
		"the rest of the first one bad":           {[][]byte{head(chunk(10, 2, 10)), bad(chunk(0, 0, 0)), chunk(12, 1, 12)}, true},
		"the same, and not known synced":          {[][]byte{head(chunk(10, 2, 10)), bad(chunk(0, 0, 0)), chunk(12, 1, 10)}, false},
		"a bad one, its witness two later":        {[][]byte{chunk(10, 2, 10), bad(chunk(12, 1, 12)), chunk(13, 1, 12), chunk(14, 1, 14)}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := walWalker{number: 7, bad: -1}
			if err := w.walk(bytes.NewReader(append(bytes.Join(c.records, nil), make([]byte, 100)...))); err != nil {
				t.Fatal(err)
			}
			if got := w.bad >= 0 && w.synced > w.whole; got != c.corrupt {
				t.Errorf("corrupt: %v, want %v; bad at %d, whole up to %d, synced up to %d", got, c.corrupt, w.bad, w.whole, w.synced)
			}
		})
	}
}
