package rpc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// snapshotBlobBytes is how much of a database file goes into one message, as in etcd.
const snapshotBlobBytes = 32 << 10

// Snapshot implements etcdserverpb.MaintenanceServer: the messages hold a database file, one after another, and the last
// one the SHA-256 of it all.
func (s *Maintenance) Snapshot(_ *etcdserverpb.SnapshotRequest, stream etcdserverpb.Maintenance_SnapshotServer) error {
	e, err := s.member.Export(stream.Context())
	if err != nil {
		return toStatus(err)
	}
	sum := sha256.New()
	for err == nil && e.Left() > 0 {
		// A message may be under way when Send has returned: each has a buffer of its own.
		blob := make([]byte, min(snapshotBlobBytes, e.Left()))
		if _, err = io.ReadFull(e, blob); err != nil {
			err = fmt.Errorf("read the exported state: %w", err)
			break
		}
		_, _ = sum.Write(blob) // a hash takes everything
		err = stream.Send(&etcdserverpb.SnapshotResponse{
			Blob: blob, RemainingBytes: uint64(e.Left()), Version: e.Version(),
		})
	}
	if err == nil {
		err = stream.Send(&etcdserverpb.SnapshotResponse{Blob: sum.Sum(nil), Version: e.Version()})
	}
	return toStatus(errors.Join(err, e.Close()))
}
