package etcdfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// walWriter writes the files of a log as etcd does.
type walWriter struct {
	t     testing.TB
	dir   string
	files []string
	buf   []byte // of the last file
	ends  []int  // offsets in it at which records end
	crc   uint32
	index uint64
}

func newWALWriter(t testing.TB) *walWriter {
	w := &walWriter{t: t, dir: t.TempDir()}
	w.cut()
	return w
}

// cut begins a file.
func (w *walWriter) cut() {
	if len(w.files) > 0 {
		w.flush()
	}
	w.files = append(w.files, fmt.Sprintf("%016x-%016x.wal", len(w.files), w.index+1))
	if len(w.files) == 1 {
		w.files[0] = fmt.Sprintf("%016x-%016x.wal", 0, 0)
	}
	w.buf, w.ends = nil, nil
	w.record(walCRC, nil)
	w.record(walIdentity, appendNumbers(nil, 7, 8))
}

func (w *walWriter) record(kind uint64, data []byte) {
	w.crc = crc32.Update(w.crc, castagnoli, data)
	rec := appendNumbers(nil, kind, uint64(w.crc))
	if data != nil {
		rec = protowire.AppendBytes(protowire.AppendTag(rec, 3, protowire.BytesType), data)
	}
	pad := (8 - len(rec)%8) % 8
	frame := uint64(len(rec))
	if pad > 0 {
		frame |= uint64(0x80|pad) << 56
	}
	w.buf = binary.LittleEndian.AppendUint64(w.buf, frame)
	w.buf = append(append(w.buf, rec...), make([]byte, pad)...)
	w.ends = append(w.ends, len(w.buf))
}

func (w *walWriter) message(kind uint64, m proto.Message) {
	w.t.Helper()
	b, err := proto.Marshal(m)
	noError(w.t, err)
	w.record(kind, b)
}

func (w *walWriter) entry(index, term uint64, data string) {
	w.index = index
	w.message(walEntry, &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Index: &index, Term: &term, Data: []byte(data)})
}

func (w *walWriter) hardState(term, vote, commit uint64) {
	w.message(walHardState, &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit})
}

// flush writes the last file, with what was allocated before.
func (w *walWriter) flush() {
	w.t.Helper()
	noError(w.t, os.WriteFile(w.last(), append(slices.Clone(w.buf), make([]byte, 4096)...), 0o600))
}

func (w *walWriter) last() string { return filepath.Join(w.dir, w.files[len(w.files)-1]) }

// readAll reads a log as a list of texts.
func readAll(dir string) (all []string, err error) {
	add := func(format string, args ...any) error { all = append(all, fmt.Sprintf(format, args...)); return nil }
	err = ReadWAL(context.Background(), dir, WALReader{
		Identity: func(member, cluster uint64) error { return add("member %d of %d", member, cluster) },
		Entry:    func(e *raftpb.Entry) error { return add("%d/%d %.9s", e.GetIndex(), e.GetTerm(), e.GetData()) },
		HardState: func(hs *raftpb.HardState) error {
			return add("term %d vote %d commit %d", hs.GetTerm(), hs.GetVote(), hs.GetCommit())
		},
		Snapshot: func(s WALSnapshot) error {
			return add("snapshot %d/%d %v", s.Index, s.Term, s.ConfState.GetVoters())
		},
	})
	return all, err
}

// threeFiles writes a log of three files.
func threeFiles(t testing.TB) (*walWriter, []string) {
	w := newWALWriter(t)
	w.record(walSnapshot, appendNumbers(nil, 0, 0))
	w.hardState(1, 2, 0)
	w.entry(1, 1, "one")
	w.entry(2, 1, "two")
	w.cut()
	conf, err := proto.Marshal(&raftpb.ConfState{Voters: []uint64{7}})
	noError(t, err)
	w.record(walSnapshot, protowire.AppendBytes(protowire.AppendTag(appendNumbers(nil, 2, 1), 3, protowire.BytesType), conf))
	w.entry(3, 1, "three")
	w.cut()
	w.entry(3, 2, "other")
	w.entry(4, 2, strings.Repeat("large", 300))
	w.hardState(2, 7, 3)
	w.flush()
	return w, []string{"member 7 of 8", "snapshot 0/0 []", "term 1 vote 2 commit 0", "1/1 one", "2/1 two",
		"member 7 of 8", "snapshot 2/1 [7]", "3/1 three", "member 7 of 8", "3/2 other", "4/2 largelarg", "term 2 vote 7 commit 3"}
}

func TestALogOfSeveralFilesIsRead(t *testing.T) {
	t.Parallel()
	w, want := threeFiles(t)
	noError(t, os.WriteFile(filepath.Join(w.dir, "0.tmp"), []byte("?"), 0o600))
	got, err := readAll(w.dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
	if is, err := HasWAL(w.dir); !is || err != nil {
		t.Error(is, err)
	}
	if is, err := HasWAL(filepath.Join(w.dir, "none")); is || err != nil {
		t.Error(is, err)
	}
	// The first file may have been removed by etcd: the checksum goes on from what the next one says.
	noError(t, os.Remove(filepath.Join(w.dir, w.files[0])))
	if got, err := readAll(w.dir); err != nil || !reflect.DeepEqual(got, want[5:]) {
		t.Fatalf("%q, %v; want %q", got, err, want[5:])
	}
	noError(t, os.Remove(filepath.Join(w.dir, w.files[1])))
	noError(t, os.WriteFile(filepath.Join(w.dir, w.files[0]), nil, 0o600))
	if _, err := readAll(w.dir); !errors.Is(err, ErrCorruptWAL) || !strings.Contains(err.Error(), "number 1, is missing") {
		t.Fatal(err)
	}
}

// TestATornTailEndsTheLastFile cuts the last file off at every byte, and tears sectors out of its last record.
func TestATornTailEndsTheLastFile(t *testing.T) {
	t.Parallel()
	w, want := threeFiles(t)
	const before = 8 // what stands in the files before
	whole := slices.Clone(w.buf)
	for n := range whole {
		noError(t, os.WriteFile(w.last(), whole[:n], 0o600))
		ends := 0
		for _, end := range w.ends {
			if end <= n {
				ends++
			}
		}
		got, err := readAll(w.dir)
		if err != nil || !reflect.DeepEqual(got, want[:before+max(0, ends-1)]) { // the first one is the checksum
			t.Fatalf("cut at %d: %q, %v", n, got, err)
		}
	}
	large := w.ends[3] // where the record of entry 4 ends
	torn := slices.Clone(whole[:large])
	clear(torn[large-large%walSector-walSector : large-large%walSector])
	noError(t, os.WriteFile(w.last(), torn, 0o600))
	if got, err := readAll(w.dir); err != nil || !reflect.DeepEqual(got, want[:10]) {
		t.Fatalf("a sector is missing: %q, %v", got, err)
	}
}

// TestADamagedLogIsToldWithFileAndOffset flips each bit of the second file, and of the last one.
func TestADamagedLogIsToldWithFileAndOffset(t *testing.T) {
	t.Parallel()
	w, want := threeFiles(t)
	path := filepath.Join(w.dir, w.files[1])
	whole, err := os.ReadFile(path)
	noError(t, err)
	written := len(strings.TrimRight(string(whole), "\x00"))
	types := map[int]bool{} // the checksum does not cover them
	for at := 0; at < written; at += 8 + (int(whole[at])+int(whole[at+1])<<8+7)/8*8 {
		types[at+9] = true
	}
	for at := range written {
		if types[at] {
			continue
		}
		damaged := slices.Clone(whole)
		damaged[at] ^= 1 << (at % 8)
		noError(t, os.WriteFile(path, damaged, 0o600))
		got, err := readAll(w.dir)
		if err == nil {
			// The bits that say how many bytes of padding there are, and those of the padding, mean nothing.
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("byte %d: %q", at, got)
			}
			continue
		}
		if !errors.Is(err, ErrCorruptWAL) || !strings.Contains(err.Error(), ".wal, offset ") {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	noError(t, os.WriteFile(path, whole, 0o600))
	damaged := slices.Clone(w.buf)
	damaged[w.ends[2]-12] ^= 4 // in entry 3, with records behind it
	noError(t, os.WriteFile(w.last(), damaged, 0o600))
	if _, err := readAll(w.dir); !errors.Is(err, ErrCorruptWAL) || !strings.Contains(err.Error(), fmt.Sprintf("%s, offset %d", w.last(), w.ends[1])) {
		t.Fatal(err)
	}
}

func TestALogOfTwoMembersIsDamaged(t *testing.T) {
	t.Parallel()
	w := newWALWriter(t)
	w.record(walIdentity, appendNumbers(nil, 7, 9))
	w.flush()
	if _, err := readAll(w.dir); !errors.Is(err, ErrCorruptWAL) || !strings.Contains(err.Error(), "of member 7 of cluster 9") {
		t.Fatal(err)
	}
}

func TestWhoeverReadsALogMayStop(t *testing.T) {
	t.Parallel()
	w, _ := threeFiles(t)
	enough := errors.New("enough")
	err := ReadWAL(t.Context(), w.dir, WALReader{Entry: func(*raftpb.Entry) error { return enough }})
	if !errors.Is(err, enough) || errors.Is(err, ErrCorruptWAL) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w = newWALWriter(t)
	for i := range uint64(2 * contextEvery) {
		w.entry(i+1, 1, "x")
	}
	w.flush()
	if err := ReadWAL(ctx, w.dir, WALReader{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// FuzzReadWAL wants an error or an end, whatever a file holds.
func FuzzReadWAL(f *testing.F) {
	w, _ := threeFiles(f)
	f.Add(w.buf, true)
	f.Add(w.buf[:100], false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, last bool) {
		dir := t.TempDir()
		names := []string{"0000000000000000-0000000000000000.wal"}
		if !last {
			names = append(names, "0000000000000001-0000000000000001.wal")
		}
		for i, name := range names {
			if i > 0 {
				b = nil
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = readAll(dir)
	})
}

// raftSnapFile makes a snapshot file as etcd does.
func raftSnapFile(t testing.TB, v2 string) []byte {
	data, err := proto.Marshal(&raftpb.Snapshot{Data: []byte(v2), Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(9), Term: proto.Uint64(2), ConfState: &raftpb.ConfState{Voters: []uint64{7}},
	}})
	noError(t, err)
	b := appendNumbers(nil, uint64(crc32.Checksum(data, castagnoli)))
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), data)
}

const v2Text = `{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{"members":{"Path":"/0/members","Children":{
"7":{"Path":"/0/members/7","Children":{"attributes":{"Path":"/0/members/7/attributes","Value":"{\"name\":\"m\",\"clientURLs\":[\"c\"]}"},
"raftAttributes":{"Path":"/0/members/7/raftAttributes","Value":"{\"peerURLs\":[\"p\"]}"}}}}}}},"1":{"Path":"/1","Children":{}}}},"CurrentVersion":2}`

func TestASnapshotFileIsRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), RaftSnapName(2, 9))
	noError(t, os.WriteFile(path, raftSnapFile(t, v2Text), 0o600))
	s, err := ReadRaftSnap(path)
	noError(t, err)
	if s.Index != 9 || s.Term != 2 || !slices.Equal(s.ConfState.GetVoters(), []uint64{7}) || s.HasKeys {
		t.Errorf("%+v", s)
	}
	if len(s.Members) != 1 || s.Members[0].ID != 7 || s.Members[0].Name != "m" || s.Members[0].PeerURLs[0] != "p" || s.Members[0].ClientURLs[0] != "c" {
		t.Errorf("%+v", s.Members)
	}
	keys := strings.Replace(v2Text, `"Path":"/1","Children":{}`, `"Path":"/1","Children":{"k":{"Path":"/1/k","Value":"v"}}`, 1)
	noError(t, os.WriteFile(path, raftSnapFile(t, keys), 0o600))
	if s, err := ReadRaftSnap(path); err != nil || !s.HasKeys {
		t.Error(s, err)
	}
	b := raftSnapFile(t, "")
	b[len(b)-1] ^= 1
	noError(t, os.WriteFile(path, b, 0o600))
	if _, err := ReadRaftSnap(path); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func FuzzRaftSnap(f *testing.F) {
	f.Add(raftSnapFile(f, v2Text))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeRaftSnap(b); err == nil && len(s.Members) > len(b) {
			t.Fatal("more members than bytes")
		}
	})
}
