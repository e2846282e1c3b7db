package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// store is a naive model of a database of etcd's: what it would write, record by record.
type store struct {
	revision, compacted int64
	versions            []version
	users               int
}

type version struct {
	at         int64
	tombstone  bool
	key, value string
	n          int64 // of the key's life
}

func (s *store) put(key, value string) {
	s.revision++
	n := int64(1)
	if v, ok := s.newest(key, s.revision); ok && !v.tombstone {
		n = v.n + 1
	}
	s.versions = append(s.versions, version{s.revision, false, key, value, n})
}

func (s *store) del(key string) {
	if v, ok := s.newest(key, s.revision); ok && !v.tombstone {
		s.revision++
		s.versions = append(s.versions, version{at: s.revision, tombstone: true, key: key})
	}
}

func (s *store) newest(key string, at int64) (found version, ok bool) {
	for _, v := range s.versions {
		if v.key == key && v.at <= at {
			found, ok = v, true
		}
	}
	return found, ok
}

// compact forgets what is superseded at a revision, and keys that were deleted before it.
func (s *store) compact(at int64) {
	s.compacted = at
	before := slices.Clone(s.versions)
	s.versions = slices.DeleteFunc(s.versions, func(v version) bool {
		if v.at > at {
			return false
		}
		last, _ := (&store{versions: before}).newest(v.key, at)
		return v != last || v.tombstone && v.at < at
	})
}

func (v version) record() record {
	kv := &mvccpb.KeyValue{Key: []byte(v.key)}
	suffix := ""
	if v.tombstone {
		suffix = "t"
	} else {
		kv.Value, kv.ModRevision, kv.CreateRevision, kv.Version = []byte(v.value), v.at, 1, v.n
	}
	value, err := proto.Marshal(kv)
	if err != nil {
		panic(err)
	}
	return record{etcdfile.BucketKey, fmt.Appendf(nil, "%s_%s%s", number(v.at), number(0), suffix), value}
}

func number(n int64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (8 * (7 - i)))
	}
	return b
}

// records is everything that the database holds.
func (s *store) records() (all []record) {
	for i := range s.users {
		all = append(all, record{"authUsers", fmt.Appendf(nil, "user-%03d", i), []byte("hash")})
	}
	for _, v := range s.versions {
		all = append(all, v.record())
	}
	if s.compacted > 0 {
		all = append(all, record{"meta", []byte("scheduledCompactRev"), fmt.Appendf(nil, "%s_%s", number(s.compacted), number(0))})
	}
	return all
}

// source is the store as it is when it is fetched.
func (s *store) source() Source {
	return Source{Cluster: "abc", Fetch: func(_ context.Context, path string) error {
		w, err := etcdfile.Create(path)
		if err != nil {
			return err
		}
		for _, r := range s.records() {
			if err := w.Put(r.bucket, r.key, r.value); err != nil {
				return err
			}
		}
		if err := w.Finish(); err != nil {
			return err
		}
		return etcdfile.AppendSum(context.Background(), path)
	}}
}

// options gives each point another time: the n-th second.
func options(n int) Options {
	return Options{Now: time.Unix(int64(n), 0), Logger: slog.New(slog.DiscardHandler)}
}

// exported returns the records of a point.
func exported(tb testing.TB, dir string, number int) (all []record) {
	tb.Helper()
	out := filepath.Join(dir, "..", fmt.Sprintf("export-%d-%s", number, filepath.Base(dir)))
	defer os.Remove(out)
	if _, err := Export(context.Background(), dir, number, out); err != nil {
		tb.Fatalf("export point %d: %v", number, err)
	}
	if err := etcdfile.CheckSum(context.Background(), out); err != nil {
		tb.Fatal(err)
	}
	f, err := etcdfile.Open(out)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	err = f.Records(context.Background(), func(bucket string, key, value []byte) error {
		if key != nil {
			all = append(all, record{bucket, bytes.Clone(key), bytes.Clone(value)})
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func sameRecords(a, b []record) bool {
	return slices.EqualFunc(a, b, func(x, y record) bool {
		return x.bucket == y.bucket && bytes.Equal(x.key, y.key) && bytes.Equal(x.value, y.value)
	})
}

// TestEveryPointGivesBackWhatWasThere takes points of a store that is written to and compacted between them, at any moment.
func TestEveryPointGivesBackWhatWasThere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			draw := rand.New(rand.NewPCG(seed, 0))
			dir, s := filepath.Join(t.TempDir(), "backup"), &store{revision: 1}
			var want [][]record
			for n := 1; n <= 4; n++ {
				for range draw.IntN(9) {
					key := []string{"a", "b", "c", "d"}[draw.IntN(4)]
					switch draw.IntN(4) {
					case 0, 1:
						s.put(key, fmt.Sprint(s.revision))
					case 2:
						s.del(key)
					case 3:
						from := max(1, s.compacted)
						s.compact(from + draw.Int64N(s.revision-from+1))
					}
				}
				s.users = draw.IntN(3)
				o := options(n)
				o.Full = draw.IntN(5) == 0
				p, err := Create(t.Context(), dir, s.source(), o)
				if err != nil {
					t.Fatal(err)
				}
				if p.Number != n || p.Full() != (n == 1 || o.Full) || p.Versions != int64(len(s.versions)) {
					t.Fatalf("got %+v", p)
				}
				want = append(want, s.records())
			}
			for i, w := range want {
				if got := exported(t, dir, i+1); !sameRecords(got, w) {
					t.Fatalf("point %d:\ngot  %q\nwant %q", i+1, got, w)
				}
			}
		})
	}
}

// threePoints is a backup with a full point and two increments.
func threePoints(t *testing.T) (dir string, s *store) {
	t.Helper()
	dir, s = filepath.Join(t.TempDir(), "backup"), &store{revision: 1}
	for n := 1; n <= 3; n++ {
		s.put("a", fmt.Sprint(n))
		s.put("b", "x")
		s.users = n
		if n == 3 {
			s.compact(4)
		}
		if _, err := Create(t.Context(), dir, s.source(), options(n)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, s
}

func TestAnInterruptedRunLeavesTheEarlierPoints(t *testing.T) {
	t.Parallel()
	fetch := func(t *testing.T, dir string, s *store) {
		t.Helper()
		if err := s.source().Fetch(t.Context(), filepath.Join(dir, incomingName)); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	info := `{"cluster":"abc","taken":"1970-01-01T00:00:09Z"}`
	cases := map[string]struct {
		leave   func(t *testing.T, dir string, s *store)
		resumed bool
	}{
		"while it was fetched":                      {func(t *testing.T, dir string, _ *store) { write(t, filepath.Join(dir, partName), "part") }, false},
		"when it was fetched, before that was said": {fetch, false},
		"when it was fetched whole": {func(t *testing.T, dir string, s *store) {
			fetch(t, dir, s)
			write(t, filepath.Join(dir, incomingInfo), info)
		}, true},
		"when it was fetched whole and that was said": {func(t *testing.T, dir string, s *store) {
			fetch(t, dir, s)
			rename(t, filepath.Join(dir, incomingName), filepath.Join(dir, partName))
			write(t, filepath.Join(dir, sumsName), "")
			write(t, filepath.Join(dir, incomingInfo), info)
		}, true},
		"when what was fetched was damaged since": {func(t *testing.T, dir string, _ *store) {
			write(t, filepath.Join(dir, incomingName), "nothing")
			write(t, filepath.Join(dir, incomingInfo), info)
		}, false},
		"while an increment was written": {func(t *testing.T, dir string, s *store) {
			fetch(t, dir, s)
			write(t, filepath.Join(dir, incomingInfo), info)
			write(t, filepath.Join(dir, "000004.removed.tmp"), "part")
			write(t, filepath.Join(dir, "000004.versions"), "whole")
		}, true},
		"while the manifest was written": {func(t *testing.T, dir string, _ *store) { write(t, filepath.Join(dir, "000004.point.tmp"), "{") }, false},
		"when only what was fetched had to be removed": {func(t *testing.T, dir string, s *store) {
			fetch(t, dir, s)
			write(t, filepath.Join(dir, incomingInfo), `{"cluster":"abc","taken":"1970-01-01T00:00:03Z"}`)
		}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := threePoints(t)
			want := s.records()
			c.leave(t, dir, s)
			if got := exported(t, dir, 3); !sameRecords(got, want) {
				t.Errorf("point 3 became %q", got)
			}
			s.put("c", "new")
			p, err := Create(t.Context(), dir, s.source(), options(10))
			if err != nil {
				t.Fatal(err)
			}
			if p.Number != 4 || p.Parent != 3 || p.Taken.Unix() != map[bool]int64{true: 9, false: 10}[c.resumed] {
				t.Errorf("got %+v", p)
			}
			if !c.resumed {
				want = s.records()
			}
			if got := exported(t, dir, 4); !sameRecords(got, want) {
				t.Errorf("point 4: got %q, want %q", got, want)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if n := e.Name(); n != lockName && numberOf(n) == 0 {
					t.Errorf("%s is left", n)
				}
			}
		})
	}
}

// TestWhatIsNotOfTheBackupStays: people keep snapshots named by their dates in the directory.
func TestWhatIsNotOfTheBackupStays(t *testing.T) {
	t.Parallel()
	dir, s := filepath.Join(t.TempDir(), "backup"), &store{revision: 1}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	others := []string{"20261123.db", "20261123.db.tmp", "202611230300.tar.gz", "20261123.versions", "notes.tmp", "000001.txt", "1.db"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 3; n++ {
		s.put("a", fmt.Sprint(n))
		o := options(n)
		o.Full = n == 3
		if p, err := Create(t.Context(), dir, s.source(), o); err != nil || p.Number != n {
			t.Fatalf("point %d: %+v, %v", n, p, err)
		}
	}
	if removed, err := Prune(dir, 1); err != nil || len(removed) != 2 {
		t.Fatalf("removed %+v, %v", removed, err)
	}
	for _, name := range others {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != name {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestASourceThatIsNoLaterStateIsRefused(t *testing.T) {
	t.Parallel()
	other := func(change func(s *store)) *store {
		s := &store{revision: 1}
		for n := 1; n <= 3; n++ {
			s.put("a", fmt.Sprint(n))
			s.put("b", "x")
		}
		change(s)
		return s
	}
	cases := map[string]struct {
		store   *store
		cluster string
	}{
		"its revision went back":            {&store{revision: 1}, "abc"},
		"a version has another value":       {other(func(s *store) { s.versions[len(s.versions)-1].value = "y" }), "abc"},
		"it has a version that was missing": {other(func(*store) {}), "abc"}, // the backup's was compacted
		"it is another cluster":             {other(func(s *store) { s.compact(4) }), "def"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := threePoints(t)
			src := c.store.source()
			src.Cluster = c.cluster
			if _, err := Create(t.Context(), dir, src, options(10)); !errors.Is(err, ErrDiverged) {
				t.Errorf("got %v", err)
			}
			if got := exported(t, dir, 0); !sameRecords(got, s.records()) {
				t.Errorf("the newest point became %q", got)
			}
			s.put("a", "later")
			if p, err := Create(t.Context(), dir, s.source(), options(11)); err != nil || p.Full() || p.Revision != s.revision {
				t.Errorf("the next point of the right source: got %+v, %v", p, err)
			}
			o := options(12)
			o.Full = true
			if p, err := Create(t.Context(), dir, src, o); err != nil || !p.Full() {
				t.Errorf("a full point: got %+v, %v", p, err)
			}
		})
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	dir, _ := threePoints(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(whole); at += max(1, len(whole)/10) {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 0x10
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			found := 0
			if _, err := Verify(t.Context(), dir, func(int, error) error { found++; return nil }); err != nil || found == 0 {
				t.Errorf("%s, byte %d: found %d, %v", e.Name(), at, found, err)
			}
			if n := numberOf(e.Name()); n == 1 {
				if _, err := Export(t.Context(), dir, 3, filepath.Join(t.TempDir(), "x")); err == nil {
					t.Errorf("%s, byte %d: the newest point was exported", e.Name(), at)
				}
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if points, err := Verify(t.Context(), dir, func(_ int, err error) error { return err }); err != nil || len(points) != 3 {
		t.Errorf("got %v, %v", points, err)
	}
}

func TestADamagedManifestIsFollowedByAFullPoint(t *testing.T) {
	t.Parallel()
	dir, s := threePoints(t)
	if err := os.WriteFile(filepath.Join(dir, "000003.point"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Create(t.Context(), dir, s.source(), options(10))
	if err != nil || p.Number != 4 || !p.Full() {
		t.Fatalf("got %+v, %v", p, err)
	}
	exported(t, dir, 2)
}

func TestPruningKeepsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	dir, s := threePoints(t)
	full := options(4)
	full.Full = true
	for _, o := range []Options{full, options(5)} {
		s.put("z", "z")
		if _, err := Create(t.Context(), dir, s.source(), o); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := Prune(dir, 2); err != nil || len(removed) != 0 {
		t.Errorf("keep 2: got %v, %v", removed, err)
	}
	if removed, err := Prune(dir, 1); err != nil || len(removed) != 3 {
		t.Errorf("keep 1: got %v, %v", removed, err)
	}
	if got := exported(t, dir, 5); !sameRecords(got, s.records()) {
		t.Errorf("got %q", got)
	}
	if _, err := Prune(dir, 0); err == nil {
		t.Error("nothing was to be kept")
	}
}

// TestAnInterruptedPruneLeavesNothing breaks pruning off after it has removed the manifest of a point, and files of it: what nothing
// names any more goes with the next run, be it of Create or of Prune, and nothing else does.
func TestAnInterruptedPruneLeavesNothing(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, dir string, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	create := func(t *testing.T, dir string, s *store) {
		t.Helper()
		s.put("c", "new")
		if _, err := Create(t.Context(), dir, s.source(), options(10)); err != nil {
			t.Fatal(err)
		}
	}
	prune := func(t *testing.T, dir string, _ *store) {
		t.Helper()
		if _, err := Prune(dir, 1); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		breakOff func(t *testing.T, dir string)
		then     func(t *testing.T, dir string, s *store)
		gone     []string
		stays    []string
	}{
		"before the files of an increment, then a point": {func(t *testing.T, dir string) { remove(t, dir, "000003.point") }, create,
			[]string{"000003.removed", "000003.versions", "000003.rest"}, []string{"000001.db", "000002.versions"}},
		"before the files of an increment, then a prune": {func(t *testing.T, dir string) { remove(t, dir, "000003.point") }, prune,
			[]string{"000003.removed", "000003.versions", "000003.rest", "000001.db", "000002.versions"}, nil},
		"before some files of an increment": {func(t *testing.T, dir string) { remove(t, dir, "000003.point", "000003.removed") }, create,
			[]string{"000003.versions", "000003.rest"}, []string{"000001.db", "000002.versions"}},
		"before the file of the last one, then a point": {func(t *testing.T, dir string) {
			remove(t, dir, "000003.point", "000003.removed", "000003.versions", "000003.rest",
				"000002.point", "000002.removed", "000002.versions", "000002.rest", "000001.point")
		}, create, []string{"000001.db"}, nil},
		"before the file of the last one, then a prune": {func(t *testing.T, dir string) {
			remove(t, dir, "000003.point", "000003.removed", "000003.versions", "000003.rest",
				"000002.point", "000002.removed", "000002.versions", "000002.rest", "000001.point")
		}, prune, []string{"000001.db"}, nil},
		"not at all, but a manifest was lost whose point others are made of": {func(t *testing.T, dir string) { remove(t, dir, "000002.point") }, create,
			nil, []string{"000001.db", "000002.removed", "000002.versions", "000002.rest", "000003.versions"}},
		"not at all, but manifests were lost and another one is damaged": {func(t *testing.T, dir string) {
			remove(t, dir, "000001.point", "000002.point")
			if err := os.WriteFile(filepath.Join(dir, "000003.point"), []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, create, nil, []string{"000001.db", "000002.removed", "000002.versions", "000002.rest", "000003.versions"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, s := threePoints(t)
			full := options(4)
			full.Full = true
			if _, err := Create(t.Context(), dir, s.source(), full); err != nil {
				t.Fatal(err)
			}
			c.breakOff(t, dir)
			c.then(t, dir, s)
			for _, name := range c.gone {
				if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left: %v", name, err)
				}
			}
			for _, name := range c.stays {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			newest := 4
			if _, err := os.Stat(filepath.Join(dir, "000005.point")); err == nil {
				newest = 5
			}
			if got := exported(t, dir, newest); !sameRecords(got, s.records()) {
				t.Errorf("the newest point: got %q, want %q", got, s.records())
			}
		})
	}
}

func TestABackupIsWrittenByOneProcess(t *testing.T) {
	t.Parallel()
	dir, s := threePoints(t)
	lock, err := lockBackup(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := Create(t.Context(), dir, s.source(), options(9)); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodePoint(f *testing.F) {
	whole, err := Point{Format: format, Number: 1, Files: []File{{Name: "000001.db"}}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodePoint(b); err == nil && (p.Number <= 0 || len(p.Files) == 0) {
			t.Errorf("took %+v", p)
		}
	})
}

func FuzzStream(f *testing.F) {
	path := filepath.Join(f.TempDir(), "stream")
	w, err := createStream(path)
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(w.put(record{"key", []byte("k"), []byte("v")}), w.finish()); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "stream")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := openStream(path)
		if err != nil {
			return
		}
		defer r.close()
		for ok := true; ok && err == nil; {
			_, ok, err = r.next()
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}
