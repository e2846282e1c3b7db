package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

// Find returns the points, and the one of a number, 0 for the newest. Damaged manifests are an error.
func Find(dir string, number int) (all []Point, p Point, err error) {
	all, err = Points(dir, func(_ int, err error) error { return err })
	if err != nil && number != 0 {
		// Points before a damaged one are as good as ever.
		all, err = Points(dir, func(int, error) error { return nil })
	}
	if err != nil {
		return nil, Point{}, err
	}
	for _, x := range all {
		if x.Number == number || number == 0 {
			p = x
		}
	}
	switch {
	case len(all) == 0:
		return nil, Point{}, fmt.Errorf("there is no point in %s", dir)
	case p.Number == 0:
		return nil, Point{}, fmt.Errorf("there is no point %d in %s", number, dir)
	}
	return all, p, nil
}

// Export writes the content of a point to the file at path, which must not exist: a database of etcd's with its SHA-256
// behind it, as a client saves a snapshot. The checksums of all files that it reads are compared before.
func Export(ctx context.Context, dir string, number int, path string) (p Point, err error) {
	all, p, err := Find(dir, number)
	if err != nil {
		return Point{}, err
	}
	chain, err := lineage(all, p.Number)
	if err != nil {
		return Point{}, err
	}
	for _, x := range chain {
		if err := checkFiles(ctx, dir, x); err != nil {
			return Point{}, err
		}
	}
	if _, err := os.Stat(path); err == nil {
		return Point{}, fmt.Errorf("%s is there already: %w", path, os.ErrExist)
	}
	if err := writeWhole(ctx, dir, chain, path); err != nil {
		return Point{}, err
	}
	return p, syncDir(filepath.Dir(path))
}

// writeWhole writes the database of the last of a chain of points, with its checksum, and gives it its name when it is whole. Until then it has
// one of its own: nothing there is in its way, nor is another export to the same file.
func writeWhole(ctx context.Context, dir string, chain []Point, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+tempSuffix)
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() { err = errors.Join(err, removeIfThere(temp)) }()
	if err := f.Close(); err != nil {
		return err
	}
	if err := write(ctx, dir, chain, temp); err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	if err := etcdfile.AppendSum(ctx, temp); err != nil {
		return err
	}
	err = os.Link(temp, path) // which replaces nothing
	if err == nil || errors.Is(err, os.ErrExist) {
		return err
	}
	if _, err := os.Stat(path); err == nil { // no links on this filesystem
		return fmt.Errorf("%s is there already: %w", path, os.ErrExist)
	}
	return os.Rename(temp, path)
}

// write writes the database of the last of a chain of points.
func write(ctx context.Context, dir string, chain []Point, path string) (err error) {
	v, err := openVersions(dir, chain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	w, err := etcdfile.Create(path)
	if err != nil {
		return err
	}
	last := chain[len(chain)-1]
	ctx, line := progress.Begin(ctx, fmt.Sprintf("writing point %d", last.Number), 0)
	defer line.End()
	if err = putRest(ctx, dir, last, w); err == nil {
		err = putVersions(ctx, v, last.Versions, w)
	}
	if err != nil {
		return errors.Join(err, w.Abandon())
	}
	return w.Finish()
}

func putRest(ctx context.Context, dir string, p Point, w *etcdfile.Writer) (err error) {
	if p.Full() {
		f, err := etcdfile.Open(filepath.Join(dir, p.Files[0].Name))
		if err != nil {
			return err
		}
		return errors.Join(f.Rest(ctx, w.Put), f.Close())
	}
	r, err := openStream(filepath.Join(dir, p.Files[2].Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for {
		rec, ok, err := r.next()
		if err != nil || !ok {
			return err
		}
		if err := w.Put(rec.bucket, rec.key, rec.value); err != nil {
			return err
		}
	}
}

func putVersions(ctx context.Context, v versions, want int64, w *etcdfile.Writer) error {
	n, line := int64(0), progress.Of(ctx)
	for {
		key, value, err := v.next()
		if err != nil {
			return err
		}
		if key == nil {
			break
		}
		line.Add(int64(len(key) + len(value)))
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.Put(etcdfile.BucketKey, key, value); err != nil {
			return err
		}
	}
	if n != want {
		return fmt.Errorf("%w: it has %d versions and should have %d", ErrInvalid, n, want)
	}
	return nil
}

// Verify reads every file of every point, compares checksums and goes through all records of each lineage. What is damaged goes to
// damaged, whose error ends it. It returns the points.
func Verify(ctx context.Context, dir string, damaged func(number int, err error) error) ([]Point, error) {
	all, err := Points(dir, damaged)
	if err != nil {
		return nil, err
	}
	bad := map[int]bool{}
	for _, p := range all {
		err := checkFiles(ctx, dir, p)
		switch {
		case err == nil && bad[p.Parent]:
			err = fmt.Errorf("%w: point %d is made of point %d", ErrInvalid, p.Number, p.Parent)
		case err == nil:
			err = checkContent(ctx, dir, all, p)
		}
		bad[p.Number] = err != nil
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if err := damaged(p.Number, err); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// checkFiles compares the files of a point with its manifest.
func checkFiles(ctx context.Context, dir string, p Point) error {
	ctx, line := progress.Begin(ctx, fmt.Sprintf("comparing the checksums of point %d", p.Number), p.Bytes())
	defer line.End()
	for _, f := range p.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := describe(ctx, dir, f.Name)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %s is missing", ErrInvalid, filepath.Join(dir, f.Name))
		}
		if err != nil {
			return err
		}
		if got != f {
			return fmt.Errorf("%w: %s has %d bytes with SHA-256 %s, and the manifest says %d with %s",
				ErrInvalid, filepath.Join(dir, f.Name), got.Bytes, got.SHA256, f.Bytes, f.SHA256)
		}
	}
	return nil
}

// checkContent goes through the versions of a point.
func checkContent(ctx context.Context, dir string, all []Point, p Point) (err error) {
	chain, err := lineage(all, p.Number)
	if err != nil {
		return err
	}
	v, err := openVersions(dir, chain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	ctx, line := progress.Begin(ctx, fmt.Sprintf("going through point %d", p.Number), 0)
	defer line.End()
	n := int64(0)
	for ; ctx.Err() == nil; n++ {
		key, value, err := v.next()
		if err != nil {
			return fmt.Errorf("%w: point %d: %w", ErrInvalid, p.Number, err)
		}
		if key == nil {
			break
		}
		line.Add(int64(len(key) + len(value)))
	}
	if n != p.Versions && ctx.Err() == nil {
		return fmt.Errorf("%w: point %d has %d versions and its manifest says %d", ErrInvalid, p.Number, n, p.Versions)
	}
	return ctx.Err()
}
