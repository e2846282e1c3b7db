package backup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

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
