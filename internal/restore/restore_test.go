package restore

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// founding is a cluster of two, and the first of them.
func founding(tb testing.TB) (etcdfile.Start, cluster.ID) {
	tb.Helper()
	initial, err := cluster.ParseInitialCluster("a=http://127.0.0.1:2380,b=http://127.0.0.1:2390")
	if err != nil {
		tb.Fatal(err)
	}
	f, err := cluster.Found(initial, "token")
	if err != nil {
		tb.Fatal(err)
	}
	self, _ := f.ByName("a")
	return etcdfile.Start{Founding: f}, self.ID
}

func target(tb testing.TB) Target {
	t := Target{DataDir: filepath.Join(tb.TempDir(), "data"), WALDir: filepath.Join(tb.TempDir(), "wal"), DatabaseFile: true}
	t.Start, t.Self = founding(tb)
	return t
}

func TestTheLogBeginsBehindTheFounding(t *testing.T) {
	t.Parallel()
	to := target(t)
	r, err := Run(t.Context(), database(t, 10), to)
	if err != nil {
		t.Fatal(err)
	}
	l, err := raftlog.Open(to.WALDir, raftlog.Options{Storage: storage.Options{ReadOnly: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, want := l.Mark(), (raftlog.Mark{Index: 2, Term: 1, Generation: 1}); got != want || l.LastIndex() != 2 {
		t.Errorf("got the mark %+v and the last entry %d, want %+v", got, l.LastIndex(), want)
	}
	if got := l.HardState(); got.Term != 1 || got.Commit != 2 || got.Vote != 0 {
		t.Errorf("got %+v", got)
	}
	if l.Identity() != r.Identity || r.Revision != 11 || r.Was != 11 || cluster.ID(r.Identity.MemberID) != to.Self {
		t.Errorf("got %+v", r)
	}
	for path, want := range map[string]bool{
		filepath.Join(to.WALDir, storage.RestoredGuard):      true,
		filepath.Join(to.DataDir, "member", "wal"):           false,
		filepath.Join(to.DataDir, "member", "snap", "db"):    true,
		filepath.Join(storage.Root(to.DataDir), "RESTORING"): false,
	} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestEachMemberOfAClusterGetsTheSameState(t *testing.T) {
	t.Parallel()
	f := database(t, 10)
	a, b := target(t), target(t)
	self, _ := b.Start.Founding.ByName("b")
	b.Self = self.ID
	ra, err := Run(t.Context(), f, a)
	if err != nil {
		t.Fatal(err)
	}
	rb, err := Run(t.Context(), f, b)
	if err != nil {
		t.Fatal(err)
	}
	if ra.Identity.ClusterID != rb.Identity.ClusterID || ra.Identity.MemberID == rb.Identity.MemberID ||
		ra.Identity.StoreID == rb.Identity.StoreID || ra.Revision != rb.Revision {
		t.Errorf("got %+v and %+v", ra, rb)
	}
}

func TestARestoreThatFailsRemovesWhatItMade(t *testing.T) {
	t.Parallel()
	to := target(t)
	disk := &sweeping{FS: vfs.Default}
	to.FS = disk
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, database(t, 5000), to); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if want := []string{storage.RestoringName}; !slices.Equal(disk.last, want) {
		t.Errorf("the last directory to be removed held %q, want %q: a part of it would pass for a member", disk.last, want)
	}
	to.FS = nil
	entries, err := os.ReadDir(to.DataDir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := os.Stat(to.WALDir); !os.IsNotExist(err) {
		t.Errorf("the log: %v", err)
	}
	if _, err := Run(t.Context(), database(t, 10), to); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestADirectoryThatHoldsAnythingStaysAsItIs restores to where somebody has written since the caller looked: while a large file is checked a
// second restore, or a first start, may have come and gone.
func TestADirectoryThatHoldsAnythingStaysAsItIs(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, before := range map[string]func(t *testing.T, to Target){
		"a restored member": func(t *testing.T, to Target) {
			if _, err := Run(t.Context(), database(t, 10), to); err != nil {
				t.Fatal(err)
			}
		},
		"a restore that did not finish": func(t *testing.T, to Target) {
			write(t, filepath.Join(storage.Root(to.DataDir), storage.RestoringName))
		},
		"something else":           func(t *testing.T, to Target) { write(t, filepath.Join(to.DataDir, "notes")) },
		"a member of etcd's":       func(t *testing.T, to Target) { write(t, filepath.Join(to.DataDir, "member", "snap", "db")) },
		"a log in its own place":   func(t *testing.T, to Target) { write(t, filepath.Join(to.WALDir, "000001.log")) },
		"a start that was refused": func(t *testing.T, to Target) { write(t, filepath.Join(storage.Root(to.DataDir), "IDENTITY")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := target(t)
			before(t, to)
			want := append(tree(t, to.DataDir), tree(t, to.WALDir)...)
			if _, err := Run(t.Context(), database(t, 5), to); !errors.Is(err, ErrNotEmpty) {
				t.Errorf("got %v", err)
			}
			if got := append(tree(t, to.DataDir), tree(t, to.WALDir)...); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestALogThatCameMeanwhileIsLeftAlone: two restores to one directory for the log begin at once, and the second has its state written when the
// first is done, or its member runs already. The second one fails.
func TestALogThatCameMeanwhileIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]bool{"restored": false, "and started": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := target(t), target(t)
			second.WALDir = first.WALDir
			var got Result
			once := sync.OnceFunc(func() {
				var err error
				if got, err = Run(t.Context(), database(t, 10), first); err != nil {
					t.Error(err)
				}
				if runs {
					l, err := raftlog.Open(first.WALDir, raftlog.Options{})
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(func() { l.Close() })
				}
			})
			second.FS = &snooped{FS: vfs.Default, each: func() {
				if there, err := storage.ListGenerations(vfs.Default, second.DataDir); err == nil && len(there) > 0 { // it has looked for a log
					once()
				}
			}}
			_, err := Run(t.Context(), database(t, 5), second)
			if want := map[bool]error{false: ErrNotEmpty, true: storage.ErrLocked}[runs]; !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			l, err := raftlog.Open(first.WALDir, raftlog.Options{Storage: storage.Options{ReadOnly: true, FS: unlocked{vfs.Default}}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if l.Identity() != got.Identity || l.Mark().Generation != generation {
				t.Errorf("the log of the first one is of %+v, with the mark %+v", l.Identity(), l.Mark())
			}
			if left := tree(t, second.DataDir); len(left) > 0 {
				t.Errorf("the second one has left %q", left)
			}
		})
	}
}

// unlocked lets what somebody has open be read.
type unlocked struct{ vfs.FS }

func (unlocked) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// tree names all files below a directory, but for the lock that looking for them makes.
func tree(tb testing.TB, dir string) (all []string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "LOCK" {
			return err
		}
		all = append(all, path)
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	return all
}

// TestACrashAtAnyStepIsRefusedOrNothing kills a restore by what a crash leaves: a clone of the filesystem as it was synced.
func TestACrashAtAnyStepIsRefusedOrNothing(t *testing.T) {
	t.Parallel()
	f := database(t, 10)
	for keep := range 2 {
		mem := vfs.NewCrashableMem()
		var clones []*vfs.MemFS
		to := target(t)
		to.DataDir, to.WALDir, to.DatabaseFile = "/data", "", false
		to.FS = &snooped{FS: mem, each: func() {
			clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 * keep, RNG: rand.New(rand.NewPCG(1, uint64(keep)))}))
		}}
		if _, err := Run(t.Context(), f, to); err != nil {
			t.Fatal(err)
		}
		to.FS.(*snooped).each() // after the end
		finished := 0
		for i, clone := range clones {
			err := storage.CheckRestored(clone, "/data")
			if errors.Is(err, storage.ErrUnfinished) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			_, known, err := storage.ReadIdentityFile(clone, "/data")
			if err != nil {
				t.Fatal(err)
			}
			generations, err := storage.ListGenerations(clone, "/data")
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case known && len(generations) == 1:
				finished++
			case known || len(generations) > 0:
				t.Errorf("crash %d: a part of a member that nothing marks: identity %v, states %v", i, known, generations)
			}
		}
		if len(clones) < 20 || finished == 0 || finished == len(clones) {
			t.Errorf("%d of %d crashes were after the end", finished, len(clones))
		}
	}
}

// sweeping notes what the directory held that was removed last, of those that held something.
type sweeping struct {
	vfs.FS
	last []string
}

func (s *sweeping) RemoveAll(name string) error {
	if names, err := s.List(name); err == nil && len(names) > 0 {
		s.last = names
	}
	return s.FS.RemoveAll(name)
}

// snooped calls each before every change of a directory.
type snooped struct {
	vfs.FS
	each func()
}

func (s *snooped) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	s.each()
	return s.FS.Create(name, category)
}

func (s *snooped) Rename(from, to string) error { s.each(); return s.FS.Rename(from, to) }

func (s *snooped) Remove(name string) error {
	s.each()
	err := s.FS.Remove(name)
	s.each()
	return err
}

func (s *snooped) MkdirAll(name string, perm os.FileMode) error {
	s.each()
	return s.FS.MkdirAll(name, perm)
}

func (s *snooped) OpenDir(name string) (vfs.File, error) { s.each(); return s.FS.OpenDir(name) }
