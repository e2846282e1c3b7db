package rpc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

// snapshotBlobBytes is how much of a database file goes into one message, as in etcd.
const snapshotBlobBytes = 32 << 10

// How long a database file is kept for a client that can go on with it: after its transfer was cut off, and after all of it was
// handed to the transport, which may still lose the end.
const (
	snapshotKeepCut  = 10 * time.Minute
	snapshotKeepSent = 30 * time.Second
)

// Snapshot implements etcdserverpb.MaintenanceServer: the messages hold a database file, one after another, and the last
// one the SHA-256 of it all.
func (s *Maintenance) Snapshot(_ *etcdserverpb.SnapshotRequest, stream etcdserverpb.Maintenance_SnapshotServer) error {
	ask := askedTransfer(stream.Context())
	e, err := s.export(stream.Context(), &ask)
	if err != nil {
		return toStatus(err)
	}
	if ask.id == "" {
		return toStatus(errors.Join(send(e, 0, stream), e.Close()))
	}
	keep := snapshotKeepSent
	err = stream.SetHeader(metadata.Pairs(snapshot.TransferKey, e.ID(), snapshot.OffsetKey, strconv.FormatInt(ask.offset, 10)))
	if err == nil {
		err = send(e, ask.offset, stream)
	}
	if err != nil {
		keep = snapshotKeepCut
	}
	return toStatus(errors.Join(err, e.Keep(keep)))
}

// transfer is what a client asks to go on with; its id is "" for one that cannot.
type transfer struct {
	id     string
	offset int64
}

func askedTransfer(ctx context.Context) (t transfer) {
	if v := metadata.ValueFromIncomingContext(ctx, snapshot.TransferKey); len(v) > 0 {
		t.id = v[0]
	}
	if v := metadata.ValueFromIncomingContext(ctx, snapshot.OffsetKey); len(v) > 0 {
		t.offset, _ = strconv.ParseInt(v[0], 10, 64) // what is no number asks for all
	}
	return t
}

// export returns the file that is asked for, or a new one with the offset 0.
func (s *Maintenance) export(ctx context.Context, ask *transfer) (*member.Export, error) {
	if ask.id != "" && ask.offset > 0 {
		e, err := s.member.ResumeExport(ctx, ask.id)
		switch {
		case errors.Is(err, member.ErrExportGone):
		case err == nil && ask.offset > e.Left():
			if err := e.Close(); err != nil {
				return nil, err
			}
		default:
			return e, err
		}
	}
	ask.offset = 0
	return s.member.Export(ctx)
}

// givingWay lets other requests run after each piece of an export that it hashes, and takes none when ctx has ended.
type givingWay struct {
	hash.Hash
	ctx    context.Context
	export *member.Export
}

func (h givingWay) Write(b []byte) (int, error) {
	if err := h.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := h.Hash.Write(b)
	h.export.Rest()
	return n, err
}

// send sends what comes at the offset, and the checksum of all.
func send(e *member.Export, offset int64, stream etcdserverpb.Maintenance_SnapshotServer) error {
	sum := givingWay{sha256.New(), stream.Context(), e}
	if _, err := io.CopyN(sum, e, offset); err != nil {
		return fmt.Errorf("read the exported state: %w", err)
	}
	for e.Left() > 0 {
		// A message may be under way when Send has returned: each has a buffer of its own.
		blob := make([]byte, min(snapshotBlobBytes, e.Left()))
		if _, err := io.ReadFull(e, blob); err != nil {
			return fmt.Errorf("read the exported state: %w", err)
		}
		if _, err := sum.Write(blob); err != nil {
			return err
		}
		err := stream.Send(&etcdserverpb.SnapshotResponse{
			Blob: blob, RemainingBytes: uint64(e.Left()), Version: e.Version(),
		})
		if err != nil {
			return err
		}
	}
	return stream.Send(&etcdserverpb.SnapshotResponse{Blob: sum.Sum(nil), Version: e.Version()})
}
