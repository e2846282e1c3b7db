package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// format is the version of manifests and of what they name.
const format = 1

// ErrNewerFormat is returned for a backup that a newer release has written.
var ErrNewerFormat = errors.New("backup: written by a newer release")

// Point is one point in time, as its manifest says.
type Point struct {
	Format int `json:"format"`
	// Number counts from 1; Parent is the point that this one is an increment to, 0 for a full one.
	Number int `json:"number"`
	Parent int `json:"parent"`
	// Cluster is the cluster's id in hexadecimal, "" when it is not known.
	Cluster string `json:"cluster"`
	// Revision is the store's, Compacted the one compacted to, -1 for never.
	Revision  int64 `json:"revision"`
	Compacted int64 `json:"compacted"`
	// Index and Term are those of the last entry applied.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	// Versions is how many versions of keys there are.
	Versions int64     `json:"versions"`
	Taken    time.Time `json:"taken"`
	Files    []File    `json:"files"`
}

// File is one file of a point.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Full tells whether the point stands by itself.
func (p Point) Full() bool { return p.Parent == 0 }

// Bytes is the size of all files.
func (p Point) Bytes() (n int64) {
	for _, f := range p.Files {
		n += f.Bytes
	}
	return n
}

// manifestMax bounds what is read of a manifest.
const manifestMax = 64 << 10

const (
	pointSuffix    = ".point"
	tempSuffix     = ".tmp"
	fullSuffix     = ".db"
	removedSuffix  = ".removed"
	versionsSuffix = ".versions"
	restSuffix     = ".rest"
)

// fileSuffixes are those of the files that a manifest names.
var fileSuffixes = []string{fullSuffix, removedSuffix, versionsSuffix, restSuffix}

func nameOf(number int, suffix string) string { return fmt.Sprintf("%06d%s", number, suffix) }

// numberOf returns the number of a point that a file belongs to, 0 for none.
func numberOf(name string) int {
	digits, _, ok := strings.Cut(name, ".")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n <= 0 || len(digits) < 6 {
		return 0
	}
	return n
}

// encode returns the bytes of a manifest.
func (p Point) encode() ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode a manifest: %w", err)
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "crc=%08x\n", crc32.Checksum(b, castagnoli)), nil
}

// decodePoint reads what encode made.
func decodePoint(b []byte) (p Point, err error) {
	at := bytes.LastIndex(b, []byte("crc="))
	if at < 0 || string(b[at:]) != fmt.Sprintf("crc=%08x\n", crc32.Checksum(b[:at], castagnoli)) {
		return Point{}, fmt.Errorf("%w: the manifest's checksum does not match", ErrInvalid)
	}
	if err := json.Unmarshal(b[:at], &p); err != nil {
		return Point{}, fmt.Errorf("%w: the manifest: %w", ErrInvalid, err)
	}
	if p.Format > format {
		return Point{}, fmt.Errorf("%w: format %d, known up to %d", ErrNewerFormat, p.Format, format)
	}
	want := []string{fullSuffix}
	if !p.Full() {
		want = []string{removedSuffix, versionsSuffix, restSuffix}
	}
	ok := p.Format > 0 && p.Number > 0 && p.Parent >= 0 && p.Parent < p.Number && len(p.Files) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = p.Files[i].Name == nameOf(p.Number, want[i])
	}
	if !ok {
		return Point{}, fmt.Errorf("%w: the manifest contradicts itself", ErrInvalid)
	}
	return p, nil
}

// Points returns the points of a backup in order. A manifest that cannot be read goes to damaged, with the number of its
// point, and is left out; damaged's error ends it.
func Points(dir string, damaged func(number int, err error) error) ([]Point, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	var all []Point
	for _, e := range entries {
		n := numberOf(e.Name())
		if n == 0 || e.Name() != nameOf(n, pointSuffix) {
			continue
		}
		p, err := readPoint(filepath.Join(dir, e.Name()))
		if err == nil && p.Number != n {
			err = fmt.Errorf("%w: it is the manifest of point %d", ErrInvalid, p.Number)
		}
		if errors.Is(err, ErrInvalid) {
			if err := damaged(n, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Point) int { return a.Number - b.Number })
	return all, nil
}

func readPoint(path string) (p Point, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Point{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, manifestMax+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return Point{}, err
	}
	return decodePoint(b)
}

// writeFile writes a small file durably, all or nothing.
func writeFile(dir, name string, b []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+tempSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+tempSuffix, path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error { return storage.SyncDir(vfs.Default, dir) }

// describe returns the size and the checksum of a file.
func describe(ctx context.Context, dir, name string) (f File, err error) {
	in, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return File{}, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, progress.Of(ctx)), in)
	if err = errors.Join(err, in.Close()); err != nil {
		return File{}, fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return File{Name: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}
