package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// oldRecord is a key of a log in Pebble and its value.
type oldRecord struct{ key, val []byte }

// oldNumbers is a record of one byte of key whose value is nothing but numbers.
func oldNumbers(kind byte, numbers ...uint64) oldRecord {
	r := oldRecord{key: []byte{kind}}
	for _, n := range numbers {
		r.val = binary.AppendUvarint(r.val, n)
	}
	return r
}

func oldEntryRecord(index, term uint64, kind byte, data string) oldRecord {
	return oldRecord{oldEntryKey(index), append(append(binary.AppendUvarint(nil, term), kind), data...)}
}

// oldRecords is a log in Pebble with the mark 4 and entries [5, 8) of term 2, of which the first two are committed.
func oldRecords() []oldRecord {
	return []oldRecord{
		{[]byte{oldIdentity}, testIdentity.Encode()},
		oldNumbers(oldHardState, 2, 8, 6),
		oldNumbers(oldMark, 4, 1, 1),
		oldNumbers(oldLast, 7),
		oldEntryRecord(5, 2, 0, "five"),
		oldEntryRecord(6, 2, 1, ""),
		oldEntryRecord(7, 2, 0, "seven"),
	}
}

// without removes the records with a key, replaced gives one with the same key its place.
func without(records []oldRecord, key ...byte) []oldRecord {
	return slices.DeleteFunc(records, func(r oldRecord) bool { return string(r.key) == string(key) })
}

func replaced(records []oldRecord, by oldRecord) []oldRecord {
	return append(without(records, by.key...), by)
}

// writeOldRecords makes a log in Pebble of one batch: it is the only chunk of the newest write-ahead log of a database that holds nothing.
func writeOldRecords(t testing.TB, fs storage.FS, records []oldRecord) {
	t.Helper()
	oldLogOn(t, fs, "new")
	batch := binary.LittleEndian.AppendUint64(nil, 100) // its sequence number
	batch = binary.LittleEndian.AppendUint32(batch, uint32(len(records)))
	for _, r := range records {
		batch = append(binary.AppendUvarint(append(batch, 1), uint64(len(r.key))), r.key...) // 1: a key is set
		batch = append(binary.AppendUvarint(batch, uint64(len(r.val))), r.val...)
	}
	body := append([]byte{1}, batch...) // 1: a whole record
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	chunk := binary.LittleEndian.AppendUint32(nil, (sum>>15|sum<<17)+0xa282ead8)
	chunk = binary.LittleEndian.AppendUint16(chunk, uint16(len(batch)))
	overwrite(t, fs, path.Join(testDir, "000004.log"), append(chunk, body...))
}

func TestALogInPebbleThatIsNotPossibleIsNotTakenOver(t *testing.T) {
	t.Parallel()
	newer := testIdentity
	newer.Format++
	cases := map[string]struct {
		records []oldRecord
		says    string
		is      error
	}{
		"a key of no known kind":                {append(oldRecords(), oldRecord{key: []byte{0x05}}), "key 05: it is of no known kind", storage.ErrCorrupt},
		"a key that is longer":                  {append(oldRecords(), oldRecord{key: []byte{0x03, 0}}), "key 0300 is of no known kind", storage.ErrCorrupt},
		"a key above the entries, in a new log": {[]oldRecord{{key: []byte{0x11}}}, "key 11 is of no known kind", storage.ErrCorrupt},
		"no identity":                           {without(oldRecords(), oldIdentity), "key 01 is missing", storage.ErrCorrupt},
		"no hard state":                         {without(oldRecords(), oldHardState), "key 02 is missing", storage.ErrCorrupt},
		"no mark":                               {without(oldRecords(), oldMark), "key 03 is missing", storage.ErrCorrupt},
		"no last":                               {without(oldRecords(), oldLast), "key 04 is missing", storage.ErrCorrupt},
		"an identity cut short":                 {replaced(oldRecords(), oldRecord{[]byte{oldIdentity}, testIdentity.Encode()[:9]}), "key 01", storage.ErrCorrupt},
		"a newer identity":                      {replaced(oldRecords(), oldRecord{[]byte{oldIdentity}, newer.Encode()}), "format version 2", storage.ErrNewerFormat},
		"a hard state without its commit":       {replaced(oldRecords(), oldNumbers(oldHardState, 2, 8)), "key 02", storage.ErrCorrupt},
		"a mark with more":                      {replaced(oldRecords(), oldNumbers(oldMark, 4, 1, 1, 1)), "key 03", storage.ErrCorrupt},
		"a last below the mark":                 {replaced(oldRecords(), oldNumbers(oldLast, 3)), "the last entry 3 is below the mark 4", storage.ErrCorrupt},
		"a commit above the last":               {replaced(oldRecords(), oldNumbers(oldHardState, 2, 8, 8)), "the commit index 8 is above the last entry 7", storage.ErrCorrupt},
		"entries where none should be": {replaced(replaced(oldRecords(), oldNumbers(oldLast, 4)), oldNumbers(oldHardState, 2, 8, 4)),
			"no entry should be after the mark 4", storage.ErrCorrupt},
		"no entries":                         {oldRecords()[:4], "the first entry 5 is missing", storage.ErrCorrupt},
		"no first entry":                     {without(oldRecords(), oldEntryKey(5)...), "the first entry is 6 and should be 5", storage.ErrCorrupt},
		"no last entry":                      {without(oldRecords(), oldEntryKey(7)...), "the last entry is 6 and should be 7", storage.ErrCorrupt},
		"an entry between them is not there": {without(oldRecords(), oldEntryKey(6)...), "the next entry is 7 and should be 6", storage.ErrCorrupt},
		"an entry beyond the last":           {append(oldRecords(), oldEntryRecord(8, 2, 0, "")), "the last entry is 8 and should be 7", storage.ErrCorrupt},
		"a key behind the entries":           {append(oldRecords(), oldRecord{key: []byte{0x20}}), "key 20 is of no known kind", storage.ErrCorrupt},
		"a key between the entries":          {append(oldRecords(), oldRecord{key: append(oldEntryKey(5), 0)}), "is of no known kind", storage.ErrCorrupt},
		"an entry of nothing":                {replaced(oldRecords(), oldRecord{key: oldEntryKey(5)}), "entry 5", storage.ErrCorrupt},
		"an entry without a type":            {replaced(oldRecords(), oldRecord{oldEntryKey(6), []byte{2}}), "entry 6", storage.ErrCorrupt},
		"an entry of an unknown type":        {replaced(oldRecords(), oldEntryRecord(7, 2, 3, "")), "entry 7", storage.ErrCorrupt},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			writeOldRecords(t, fs, c.records)
			before, err := fs.List(testDir)
			must(t, err)
			_, err = tryOpen(fs)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), testDir) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			} else if c.is == storage.ErrCorrupt && !strings.Contains(err.Error(), storage.Remedy) {
				t.Errorf("no advice in: %v", err)
			}
			after, err := fs.List(testDir)
			must(t, err)
			if storage.LogGuarded(after) || !slices.Equal(storage.PebbleLogFiles(before), storage.PebbleLogFiles(after)) {
				t.Errorf("left are %q of %q", after, before)
			}
		})
	}
}

func TestARecordOfEachKindInPebbleIsTakenOver(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	writeOldRecords(t, fs, oldRecords())
	l := open(t, fs, Options{})
	if l.HardState() != (HardState{2, 8, 6}) || l.Identity() != testIdentity || l.Mark() != (Mark{4, 1, 1}) {
		t.Errorf("hard state %+v of %v, mark %+v", l.HardState(), l.Identity(), l.Mark())
	}
	entries, err := l.Entries(5, 8, 1<<20)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%d/%d %v %q", e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData()))
	}
	if want := []string{`5/2 EntryNormal "five"`, `6/2 EntryConfChange ""`, `7/2 EntryNormal "seven"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	must(t, l.Close())
}

// TestAnErrorOfAnyReadRefusesTheTakeOver with that error, and what is in Pebble stays: or the log is whole without what was to be read.
func TestAnErrorOfAnyReadRefusesTheTakeOver(t *testing.T) {
	t.Parallel()
	for name, want := range oldLogs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused := 0
			for at, all := int64(1), false; !all; at++ {
				mem := vfs.NewMem()
				oldLogOn(t, mem, name)
				fs, over := failingRead(mem, at)
				l, err := tryOpen(fs)
				switch {
				case err == nil:
					all = over()
					wantOld(t, l, name)
					must(t, l.Close())
				case !errors.Is(err, syscall.EIO), errors.Is(err, storage.ErrCorrupt):
					t.Fatalf("read %d: %v", at, err)
				default:
					refused++
				}
				l = open(t, mem, Options{})
				wantOld(t, l, name)
				must(t, l.Close())
			}
			if least := 10; refused < least {
				t.Errorf("%d reads that matter, of a log of %v", refused, want.mark)
			}
		})
	}
}

// TestALogInPebbleWithABitFlippedAnywhereIsWholeOrRefused: what is not refused was in no need of the bit.
func TestALogInPebbleWithABitFlippedAnywhereIsWholeOrRefused(t *testing.T) {
	t.Parallel()
	const every = 97 // bytes
	plain := vfs.NewMem()
	oldLogOn(t, plain, "closed")
	names, err := plain.List(testDir)
	must(t, err)
	refused := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		good := content(t, plain, path.Join(testDir, name))
		for at := 0; at < len(good); at += every {
			fs := vfs.NewMem()
			oldLogOn(t, fs, "closed")
			bad := slices.Clone(good)
			bad[at] ^= 1 << (at % 8)
			overwrite(t, fs, path.Join(testDir, name), bad)
			l, err := tryOpen(fs)
			switch {
			case err == nil:
				wantOld(t, l, "closed")
				must(t, l.Close())
			case !errors.Is(err, storage.ErrCorrupt), !strings.Contains(err.Error(), testDir), !strings.Contains(err.Error(), storage.Remedy):
				t.Errorf("byte %d of %s: %v", at, name, err)
			default:
				refused++
			}
		}
	}
	if refused < 100 {
		t.Errorf("only %d were refused", refused)
	}
}
