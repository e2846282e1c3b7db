package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

var (
	// ErrDiverged is returned for an increment to a source that is not a later state of the store that was backed up.
	ErrDiverged = errors.New("this is not a later state of the store in the backup")
	// ErrBusy is returned when another process writes to the backup.
	ErrBusy = errors.New("another process writes to this backup")
)

const (
	lockName     = "LOCK"
	incomingName = "incoming.db"
	incomingInfo = "incoming.json"
)

// Source is what a point is made of.
type Source struct {
	// Cluster is its id in hexadecimal, "" when it is not known.
	Cluster string
	// Fetch writes its content to the file at path, as a database of etcd's with its SHA-256 behind it.
	Fetch func(ctx context.Context, path string) error
	// Open, in place of Fetch, begins to transfer that, or goes on with a transfer that was cut. Without either the content is only
	// to be had from an interrupted run.
	Open func(ctx context.Context, have Piece) (Transfer, error)
}

// Options says how to make a point.
type Options struct {
	// Full asks for a full point; the first one is full in any case.
	Full bool
	// Now is the time that the point is said to be taken at.
	Now time.Time
	// Logger takes what happens.
	Logger *slog.Logger
}

// Create adds a point to the backup in dir, which it makes if need be. An interrupted run whose transfer was complete is
// finished, and nothing is transferred anew; one whose transfer was cut is gone on with, where the source can. Errors are ErrBusy, ErrDiverged, or wrap ErrInvalid when the parent is damaged.
func Create(ctx context.Context, dir string, src Source, o Options) (p Point, err error) {
	if err := storage.MakeDirs(vfs.Default, dir); err != nil {
		return Point{}, fmt.Errorf("make the backup's directory: %w", err)
	}
	lock, err := lockBackup(dir)
	if err != nil {
		return Point{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	b := &run{dir: dir, o: o}
	if err := b.readPoints(); err != nil {
		return Point{}, err
	}
	if err := b.clean(); err != nil {
		return Point{}, err
	}
	in, err := b.fetch(ctx, src)
	if err != nil {
		return Point{}, fmt.Errorf("fetch the content: %w", err)
	}
	if p, err = b.store(ctx, in); err != nil {
		err = fmt.Errorf("store the point: %w", err)
		if errors.Is(err, ErrDiverged) {
			err = errors.Join(err, b.forgetFetched()) // or every later run would try it again, whatever its source
		}
		return Point{}, err
	}
	// A crash in arrive leaves checksums of nothing.
	if err := errors.Join(b.forgetFetched(), b.removePart()); err != nil {
		return Point{}, fmt.Errorf("remove what the point was made of: %w", err)
	}
	return p, nil
}

func lockBackup(dir string) (io.Closer, error) {
	lock, err := vfs.Default.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("%w: %s (%w)", ErrBusy, dir, err)
	}
	return lock, nil
}

// run is one making of a point.
type run struct {
	dir    string
	o      Options
	points []Point
	parent *Point // nil: the point will be full
	number int    // of the point to be
	// damaged tells that a manifest cannot be read: which points are needed is not known then.
	damaged bool
}

// incoming is what is known of a content that was fetched.
type incoming struct {
	Cluster string    `json:"cluster"`
	Taken   time.Time `json:"taken"`
}

func (b *run) path(name string) string { return filepath.Join(b.dir, name) }

// readPoints reads what is there and decides on the parent: the last point, unless its manifest is damaged.
func (b *run) readPoints() (err error) {
	last := 0
	b.points, err = Points(b.dir, func(n int, err error) error {
		last, b.damaged = max(last, n), true
		b.o.Logger.Warn("a point is damaged", "point", n, "error", err)
		return nil
	})
	if err != nil {
		return err
	}
	if n := len(b.points); n > 0 && b.points[n-1].Number > last {
		b.parent = &b.points[n-1]
		last = b.parent.Number
	}
	if b.o.Full {
		b.parent = nil
	}
	b.number = last + 1
	return nil
}

// leavings are the names of what an interrupted run may have left, but for what has come of a content. Nothing else is removed: people keep
// other files in the directory, such as snapshots named by their dates.
func (b *run) leavings() []string {
	names := []string{incomingInfo + tempSuffix, nameOf(b.number, pointSuffix) + tempSuffix}
	for _, suffix := range fileSuffixes {
		name := nameOf(b.number, suffix)
		names = append(names, name, name+tempSuffix)
	}
	return names
}

// clean removes what an interrupted run has left, but for a content that was fetched whole.
func (b *run) clean() error {
	for _, name := range b.leavings() {
		if err := removeIfThere(b.path(name)); err != nil {
			return fmt.Errorf("remove what an interrupted run left: %w", err)
		}
	}
	if b.damaged {
		return nil
	}
	return removePruned(b.dir, b.points)
}

// fetch gets the content, unless an interrupted run has.
func (b *run) fetch(ctx context.Context, src Source) (in incoming, err error) {
	if in, ok, err := b.fetched(ctx, src); ok || err != nil {
		return in, err
	}
	if err := b.forgetFetched(); err != nil {
		return in, err
	}
	in = incoming{Cluster: src.Cluster, Taken: b.o.Now.UTC()}
	switch {
	case src.Open != nil:
		in.Taken, err = b.transfer(ctx, src)
	case src.Fetch != nil:
		if err = b.removePart(); err == nil {
			err = src.Fetch(ctx, b.path(partName))
		}
		if err == nil {
			err = etcdfile.CheckSum(ctx, b.path(partName))
		}
		if err != nil {
			err = errors.Join(err, b.removePart())
		}
	default:
		err = errors.New("there is no source")
	}
	if err != nil {
		return in, err
	}
	if err := syncFile(b.path(partName)); err != nil {
		return in, err
	}
	text, err := json.Marshal(in)
	if err != nil {
		return in, err
	}
	if err := writeFile(b.dir, incomingInfo, text); err != nil {
		return in, err
	}
	return in, b.arrive()
}

// removePart removes what has come of a transfer.
func (b *run) removePart() error {
	return errors.Join(removeIfThere(b.path(partName)), removeIfThere(b.path(sumsName)))
}

// fetched tells what an interrupted run has fetched, if it is whole and not a point yet.
func (b *run) fetched(ctx context.Context, src Source) (in incoming, ok bool, err error) {
	text, err := os.ReadFile(b.path(incomingInfo))
	if err != nil || json.Unmarshal(text, &in) != nil || src.Cluster != "" && src.Cluster != in.Cluster || b.stored(in) {
		return in, false, nil // what cannot be read counts as not there: it is fetched anew
	}
	for _, name := range []string{incomingName, partName} {
		if etcdfile.CheckSum(ctx, b.path(name)) != nil {
			continue
		}
		b.o.Logger.Info("going on with the content that an interrupted run has fetched", "taken", in.Taken)
		if name == partName {
			err = b.arrive()
		}
		return in, true, err
	}
	return in, false, ctx.Err()
}

// forgetFetched removes a content that is whole but of no use. Its description goes first: it must never stand beside another one.
func (b *run) forgetFetched() error {
	for _, name := range []string{incomingInfo, incomingName} {
		if err := removeIfThere(b.path(name)); err != nil {
			return err
		}
	}
	return syncDir(b.dir)
}

// arrive gives a content that is whole, described and on disk its name.
func (b *run) arrive() error {
	if err := os.Rename(b.path(partName), b.path(incomingName)); err != nil {
		return err
	}
	if err := removeIfThere(b.path(sumsName)); err != nil {
		return err
	}
	return syncDir(b.dir)
}

// stored tells whether a fetched content is a point already: the run was interrupted when only the content was left to remove.
func (b *run) stored(in incoming) bool {
	return slices.ContainsFunc(b.points, func(p Point) bool { return p.Taken.Equal(in.Taken) && p.Cluster == in.Cluster })
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// store makes the point of the fetched content.
func (b *run) store(ctx context.Context, in incoming) (p Point, err error) {
	f, err := etcdfile.Open(b.path(incomingName))
	if err != nil {
		return Point{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Check(ctx); err != nil {
		return Point{}, err
	}
	meta, err := f.Meta()
	if err != nil {
		return Point{}, err
	}
	p = Point{Format: format, Number: b.number, Cluster: in.Cluster, Compacted: meta.Compacted(),
		Index: meta.Index, Term: meta.Term, Taken: in.Taken}
	if p.Revision, err = f.Revision(); err != nil {
		return Point{}, err
	}
	if b.parent == nil {
		err = b.storeFull(ctx, f, &p)
	} else {
		err = b.storeIncrement(ctx, f, &p)
	}
	if err != nil {
		return Point{}, err
	}
	text, err := p.encode()
	if err != nil {
		return Point{}, err
	}
	return p, writeFile(b.dir, nameOf(p.Number, pointSuffix), text)
}

// storeFull gives the content the point's name.
func (b *run) storeFull(ctx context.Context, f *etcdfile.File, p *Point) error {
	ctx, line := progress.Begin(ctx, "storing the point", 0)
	defer line.End()
	w, err := f.Walk()
	if err != nil {
		return err
	}
	for {
		key, value, err := w.Next()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return errors.Join(err, w.Close())
		}
		if key == nil {
			break
		}
		p.Versions++
		line.Add(int64(len(key) + len(value)))
	}
	if err := w.Close(); err != nil {
		return err
	}
	name := nameOf(p.Number, fullSuffix)
	// A second name, so that the content is not lost when the manifest is not written.
	if err := os.Link(b.path(incomingName), b.path(name)); err != nil {
		if err := os.Rename(b.path(incomingName), b.path(name)); err != nil { // no links on this filesystem
			return err
		}
	}
	if err := syncDir(b.dir); err != nil {
		return err
	}
	file, err := describe(ctx, b.dir, name)
	p.Files = []File{file}
	return err
}

// storeIncrement writes what the content has that the parent has not, and the other way round.
func (b *run) storeIncrement(ctx context.Context, f *etcdfile.File, p *Point) (err error) {
	parent := b.parent
	p.Parent = parent.Number
	if err := p.follows(parent); err != nil {
		return err
	}
	chain, err := lineage(b.points, parent.Number)
	if err != nil {
		return err
	}
	before, err := openVersions(b.dir, chain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, before.close()) }()
	names := []string{nameOf(p.Number, removedSuffix), nameOf(p.Number, versionsSuffix), nameOf(p.Number, restSuffix)}
	streams := make([]*streamWriter, len(names))
	for i, name := range names {
		if streams[i], err = createStream(b.path(name + tempSuffix)); err != nil {
			return err // the next run removes them
		}
	}
	ctx, line := progress.Begin(ctx, "comparing with the point before", 0)
	defer line.End()
	d := difference{before: before, parent: parent.Revision, removed: streams[0], added: streams[1]}
	if err = d.run(ctx, f); err == nil {
		err = rest(ctx, f, streams[2])
	}
	for _, s := range streams {
		err = errors.Join(err, s.finish())
	}
	if err != nil {
		return err
	}
	p.Versions = d.versions
	return b.keep(ctx, p, names)
}

// follows returns an error unless a point that was made later than the parent can be an increment on it.
func (p *Point) follows(parent *Point) error {
	switch {
	case p.Cluster != "" && parent.Cluster != "" && p.Cluster != parent.Cluster:
		return fmt.Errorf("%w: its cluster is %s, that of point %d is %s; make a full point", ErrDiverged, p.Cluster, parent.Number, parent.Cluster)
	case p.Revision < parent.Revision:
		return fmt.Errorf("%w: its revision is %d, that of point %d is %d; make a full point", ErrDiverged, p.Revision, parent.Number, parent.Revision)
	}
	return nil
}

// keep gives files that are written their names, durably, and makes them those of the point.
func (b *run) keep(ctx context.Context, p *Point, names []string) error {
	for _, name := range names {
		if err := os.Rename(b.path(name+tempSuffix), b.path(name)); err != nil {
			return err
		}
	}
	if err := syncDir(b.dir); err != nil {
		return err
	}
	for _, name := range names {
		file, err := describe(ctx, b.dir, name)
		if err != nil {
			return err
		}
		p.Files = append(p.Files, file)
	}
	return nil
}

// rest writes every record but the versions.
func rest(ctx context.Context, f *etcdfile.File, to *streamWriter) error {
	return f.Rest(ctx, func(bucket string, key, value []byte) error {
		return to.put(record{bucket, key, value})
	})
}

// difference compares the versions of a content with those of the parent.
type difference struct {
	before         versions
	parent         int64 // its revision
	removed, added *streamWriter
	versions       int64
}

func (d *difference) run(ctx context.Context, f *etcdfile.File) (err error) {
	w, err := f.Walk()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	line := progress.Of(ctx)
	old, oldValue, err := d.before.next()
	for err == nil {
		key, value, nerr := w.Next()
		if nerr != nil {
			return nerr
		}
		if key != nil {
			line.Add(int64(len(key) + len(value)))
			if d.versions++; d.versions%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
		}
		// What the parent has before this one is gone.
		for err == nil && old != nil && (key == nil || bytes.Compare(old, key) < 0) {
			if err = d.removed.put(record{bucket: etcdfile.BucketKey, key: old}); err == nil {
				old, oldValue, err = d.before.next()
			}
		}
		switch {
		case err != nil || key == nil:
			return err
		case bytes.Equal(old, key):
			if !bytes.Equal(oldValue, value) {
				return fmt.Errorf("%w: the version %x is another; make a full point", ErrDiverged, key)
			}
			old, oldValue, err = d.before.next()
		default:
			err = d.add(key, value)
		}
	}
	return err
}

// add takes a version that the parent does not have.
func (d *difference) add(key, value []byte) error {
	at, err := etcdfile.RevisionOf(key)
	if err != nil {
		return err
	}
	if at <= d.parent {
		return fmt.Errorf("%w: the parent, at revision %d, does not have its version at %d; make a full point", ErrDiverged, d.parent, at)
	}
	return d.added.put(record{etcdfile.BucketKey, key, value})
}
