package etcdfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	bolt "go.etcd.io/bbolt"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// varied returns a state with more leases than a page holds, and with versions from nothing to many pages.
func varied(t *testing.T) *state {
	t.Helper()
	s := newState(t)
	s.voters(t, 7)
	for id := int64(1); id <= 1000; id++ {
		s.grant(t, id, 60+id, 0)
	}
	for i := range 2000 {
		key := fmt.Sprintf("%03d", i*37%500)
		switch {
		case i%9 == 0:
			s.delete(t, key)
		case i%100 == 1:
			s.put(t, key, strings.Repeat("large", 5000), 0)
		default:
			s.put(t, key, strings.Repeat("v", i%300), 0)
		}
	}
	return s
}

// image makes one of the state, in runs of so many bytes, and closes the content.
func (s *state) image(t *testing.T, runBytes int) *Image {
	t.Helper()
	c, err := Read(s.db)
	noError(t, err)
	c.runBytes = runBytes
	i, err := c.Image(t.Context(), sortFile(t))
	noError(t, errors.Join(err, c.Close()))
	return i
}

// TestAnImageHasThePagesOfAFile that the same records are put into in the same order, however it is read and whatever became of the state.
func TestAnImageHasThePagesOfAFile(t *testing.T) {
	t.Parallel()
	s := varied(t)
	images := map[string]*Image{"of one run": s.image(t, 1<<30), "of many runs": s.image(t, 20_000)}

	path := filepath.Join(t.TempDir(), "db")
	w, err := Create(path)
	noError(t, err)
	c, err := Read(s.db)
	noError(t, err)
	noError(t, errors.Join(c.small(w.Put), c.Close()))
	f := s.export(t, true)
	noError(t, f.Versions(t.Context(), 0, func(at Revision, kv mvcc.KV) error { return w.Put(bucketKey, appendRevision(nil, at), kv.Raw()) }))
	noError(t, w.Finish())
	want, err := os.ReadFile(path)
	noError(t, err)
	noError(t, openFile(t, path).db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's check: %v", err)
		}
		return nil
	}))

	s.put(t, "later", "x", 0)
	for name, i := range images {
		if i.Size() != int64(len(want)) || i.pages == 0 {
			t.Errorf("%s: it has %d bytes, want %d; %d of pages that come first", name, i.Size(), len(want), i.pages)
		}
		for way, r := range map[string]io.Reader{"at once": i.Reader(), "again": i.Reader(), "byte by byte": iotest.OneByteReader(i.Reader())} {
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %d bytes, which are the file's %d: %t; %v", name, way, len(got), len(want), bytes.Equal(got, want), err)
			}
		}
		noError(t, i.Empty(func() {}))
		if info, err := i.f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%s: %d bytes are left, %v", name, info.Size(), err)
		}
	}
}

// TestADamagedImageIsNeverReadToItsEnd: what it is made of is on a disk.
func TestADamagedImageIsNeverReadToItsEnd(t *testing.T) {
	t.Parallel()
	s := varied(t)
	for name, c := range map[string]struct {
		damage func(t *testing.T, i *Image)
		want   error
	}{
		"a page that comes first": {func(t *testing.T, i *Image) { flip(t, i.f, i.pages/2) }, storage.ErrCorrupt},
		"a version":               {func(t *testing.T, i *Image) { flip(t, i.f, i.runs[1].heads-1) }, storage.ErrCorrupt},
		"what was counted":        {func(_ *testing.T, i *Image) { i.plan.root++ }, storage.ErrCorrupt},
		"fewer were counted":      {func(_ *testing.T, i *Image) { i.plan.end -= 50 }, storage.ErrCorrupt},
		"a file cut short":        {func(t *testing.T, i *Image) { noError(t, i.f.Truncate(i.runs[1].heads-1)) }, io.ErrUnexpectedEOF},
		"a file cut to nothing":   {func(t *testing.T, i *Image) { noError(t, i.f.Truncate(0)) }, io.ErrUnexpectedEOF},
	} {
		i := s.image(t, 20_000)
		c.damage(t, i)
		r := i.Reader()
		n, err := io.Copy(io.Discard, r)
		if !errors.Is(err, c.want) || n >= i.Size() {
			t.Errorf("%s: %d bytes of %d, %v", name, n, i.Size(), err)
		}
		if _, again := r.Read(make([]byte, 1)); !errors.Is(again, c.want) {
			t.Errorf("%s: read again: %v", name, again)
		}
	}
}

// TestAnImageThatIsNotMadeGivesItsSpaceBack piece by piece: the file has no name by then, and closing it would give back all at once.
func TestAnImageThatIsNotMadeGivesItsSpaceBack(t *testing.T) {
	t.Parallel()
	c, err := Read(varied(t).db)
	noError(t, err)
	c.runBytes = 20_000
	f := sortFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	var before int64
	c.Rest = func() {
		if info, err := f.Stat(); err == nil && info.Size() > 0 && ctx.Err() == nil {
			before = info.Size()
			cancel()
		}
	}
	_, err = c.Image(ctx, f)
	if info, serr := f.Stat(); !errors.Is(err, context.Canceled) || before == 0 || serr != nil || info.Size() != 0 {
		t.Errorf("of %d bytes %d are left, %v, %v", before, info.Size(), serr, err)
	}
	noError(t, c.Close())
}

func flip(t *testing.T, f *os.File, at int64) {
	t.Helper()
	var b [1]byte
	_, err := f.ReadAt(b[:], at)
	noError(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 0x10}, at)
	noError(t, err)
}
