package backup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

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
