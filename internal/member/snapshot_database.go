package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Database makes a database file of etcd of the state on its way, for members of etcd: the file, its size, and the v2 store that
// goes beside it. The file is gone when it is closed.
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
	// The open file lives on without its name.
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	r.content.Rest = r.member.newStints().Pause
	size, err = r.content.Write(ctx, f.Name())
	if err != nil {
		return nil, 0, nil, errors.Join(err, f.Close())
	}
	return f, size, data, nil
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
