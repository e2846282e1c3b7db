package backup

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// versions gives the versions of a content one after the other, in order of revision. The slices are valid until the next call;
// key is nil after the last.
type versions interface {
	next() (key, value []byte, err error)
	close() error
}

// lineage returns the points that the content of a point is made of, from the full one on.
func lineage(all []Point, number int) ([]Point, error) {
	byNumber := make(map[int]Point, len(all))
	for _, p := range all {
		byNumber[p.Number] = p
	}
	var chain []Point
	for n := number; n != 0; {
		p, ok := byNumber[n]
		if !ok {
			return nil, fmt.Errorf("%w: point %d, which point %d is made of, is not there", ErrInvalid, n, number)
		}
		chain = append([]Point{p}, chain...)
		n = p.Parent
	}
	return chain, nil
}

// openVersions opens those of the last of a chain of points.
func openVersions(dir string, chain []Point) (v versions, err error) {
	f, err := etcdfile.Open(filepath.Join(dir, chain[0].Files[0].Name))
	if err != nil {
		return nil, err
	}
	w, err := f.Walk()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	v = fullVersions{f, w}
	for _, p := range chain[1:] {
		next := &laterVersions{parent: v}
		v = next
		if next.removed, err = openStream(filepath.Join(dir, p.Files[0].Name)); err == nil {
			next.added, err = openStream(filepath.Join(dir, p.Files[1].Name))
		}
		if err != nil {
			return nil, errors.Join(err, v.close())
		}
	}
	return v, nil
}

// fullVersions are those of a full point.
type fullVersions struct {
	f *etcdfile.File
	w *etcdfile.Walk
}

func (v fullVersions) next() (key, value []byte, err error) { return v.w.Next() }

func (v fullVersions) close() error { return errors.Join(v.w.Close(), v.f.Close()) }

// laterVersions are those of an increment: its parent's without the removed ones, and then its own.
type laterVersions struct {
	parent         versions
	removed, added *streamReader
	gone           []byte // the next removed one
	begun, own     bool
}

func (v *laterVersions) next() (key, value []byte, err error) {
	if !v.begun {
		v.begun = true
		if err := v.nextGone(); err != nil {
			return nil, nil, err
		}
	}
	for !v.own {
		key, value, err = v.parent.next()
		if err != nil {
			return nil, nil, err
		}
		if key == nil {
			v.own = true
			if v.gone != nil {
				return nil, nil, v.removed.invalid("the version %x, which it removes, is not in the parent", v.gone)
			}
			break
		}
		if !bytes.Equal(key, v.gone) {
			return key, value, nil
		}
		if err := v.nextGone(); err != nil {
			return nil, nil, err
		}
	}
	r, ok, err := v.added.next()
	if err != nil || !ok {
		return nil, nil, err
	}
	return r.key, r.value, nil
}

func (v *laterVersions) nextGone() error {
	r, ok, err := v.removed.next()
	if err != nil || !ok {
		v.gone = nil
		return err
	}
	v.gone = append(v.gone[:0], r.key...)
	return nil
}

func (v *laterVersions) close() error {
	err := v.parent.close()
	for _, s := range []*streamReader{v.removed, v.added} {
		if s != nil {
			err = errors.Join(err, s.close())
		}
	}
	return err
}
