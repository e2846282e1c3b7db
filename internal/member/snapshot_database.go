package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Database makes a database of etcd of the state on its way, for members of etcd: what to read it from, its size, and the v2 store that
// goes beside it. Nothing of it is left when that is closed.
func (r *heldReader) Database(ctx context.Context) (_ io.ReadCloser, size int64, data []byte, err error) {
	if data, err = r.content.V2Store(); err != nil {
		return nil, 0, nil, err
	}
	// A full disk would end this member, and then the next one that is asked for the same.
	if err := r.member.roomFor(r.store.SizeInUse() + exportSpareBytes); err != nil {
		return nil, 0, nil, err
	}
	f, err := r.member.tempFile()
	if err != nil {
		return nil, 0, nil, err
	}
	pace := r.member.newStints()
	r.content.Rest = pace.Pause
	image, err := r.content.Image(ctx, f)
	// The open file lives on without its name.
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, 0, nil, errors.Join(fmt.Errorf("make a database of the state: %w", err), f.Close())
	}
	return &database{image, image.Reader(), pace}, image.Size(), data, nil
}

// database is a database on its way to another member, which rests as it was made.
type database struct {
	image *etcdfile.Image
	from  *etcdfile.ImageReader
	pace  *pacing.Stints
}

// Read implements io.Reader.
func (d *database) Read(p []byte) (int, error) {
	d.pace.Resume()
	n, err := d.from.Read(p)
	d.pace.Pause()
	return n, err
}

// Close gives the space back.
func (d *database) Close() error {
	d.pace.Resume()
	return errors.Join(d.image.Empty(d.pace.Pause), d.image.Close())
}

// tempFile makes a file that the next start removes if this process does not.
func (m *Member) tempFile() (*os.File, error) {
	f, err := os.CreateTemp(storage.Root(m.cfg.DataDir), exportPrefix+"*"+exportSuffix)
	if err != nil {
		return nil, fmt.Errorf("make a file for a database: %w", err)
	}
	return f, nil
}

// ReceiveDatabase is ReceiveSnapshot for a database file of etcd, which is first stored as it comes. It is the state after the
// message's entry: etcd takes it when it has applied that.
func (m *Member) ReceiveDatabase(msg *raftpb.Message, file io.Reader) (err error) {
	meta := msg.GetSnapshot().GetMetadata()
	if meta.GetIndex() <= m.node.Applied() {
		m.node.Step(msg) // raft answers that it is further already
		return nil
	}
	ctx, end, err := m.maintenance.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	path, size, err := m.store(m.withRoom(file))
	if err != nil {
		return fmt.Errorf("receive the database at index %d: %w", meta.GetIndex(), err)
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	return m.receiveState(msg, func(db *storage.DB) (err error) {
		if size >= roomEvery {
			if err := m.roomFor(size + incomingSpareBytes); err != nil {
				return err
			}
		}
		f, err := etcdfile.Open(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return f.Build(ctx, db, meta.GetIndex(), meta.GetTerm(), meta.GetConfState())
	})
}

// store stores what comes in a file and returns its path.
func (m *Member) store(from io.Reader) (path string, size int64, err error) {
	f, err := m.tempFile()
	if err != nil {
		return "", 0, err
	}
	size, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), size, nil
}
