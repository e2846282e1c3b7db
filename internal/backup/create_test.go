package backup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

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
			nothingElse(t, dir)
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
