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
	"google.golang.org/grpc/mem"
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
		b, err := nextBlob(e, sum)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(b); err != nil {
			b.drop()
			return err
		}
	}
	return stream.Send(&etcdserverpb.SnapshotResponse{Blob: sum.Sum(nil), Version: e.Version()})
}

// The fields of SnapshotResponse.
const (
	snapshotRemaining = 2
	snapshotBlob      = 3
	snapshotVersion   = 4
)

// blob is an encoded SnapshotResponse, to be handed to the codec once: what was read of the file is the message, in memory that is used again.
type blob struct{ chunks mem.BufferSlice }

// nextBlob reads the next piece of an export, which has one, adds it to its checksum, and encodes it.
func nextBlob(e *member.Export, sum io.Writer) (*blob, error) {
	n := int(min(snapshotBlobBytes, e.Left()))
	piece := chunkPool.Get(n)
	b := &blob{mem.BufferSlice{nil, mem.NewBuffer(piece, chunkPool), nil}}
	_, err := io.ReadFull(e, *piece)
	if err != nil {
		err = fmt.Errorf("read the exported state: %w", err)
	} else {
		_, err = sum.Write(*piece)
	}
	head := appendNumber(make([]byte, 0, 2*headMax), snapshotRemaining, uint64(e.Left()))
	b.chunks[0] = mem.SliceBuffer(appendBytesHead(head, snapshotBlob, n))
	tail := appendBytesHead(make([]byte, 0, headMax+len(e.Version())), snapshotVersion, len(e.Version()))
	b.chunks[2] = mem.SliceBuffer(append(tail, e.Version()...))
	if err != nil {
		b.drop()
		return nil, err
	}
	return b, nil
}

// take gives the message away, for good.
func (b *blob) take() mem.BufferSlice {
	chunks := b.chunks
	b.chunks = nil
	return chunks
}

// drop is to be called when the message may not have been taken.
func (b *blob) drop() { b.take().Free() }
