package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

// Piece is the beginning of a content, from a transfer that was cut. Its zero value is nothing.
type Piece struct {
	// ID is the transfer's.
	ID string
	// Bytes is how many of the content's bytes there are.
	Bytes int64
}

// Transfer is a content that comes.
type Transfer struct {
	// ID names the content at its source, "" where a transfer cannot be gone on with.
	ID string
	// From is where Body begins: at the end of the piece, or at 0 when the source does not have that content any more.
	From int64
	// Size is that of the whole, 0 when it is not known.
	Size int64
	// Body ends after the last byte of the content's checksum. Any error of it but io.EOF is taken for a cut.
	Body io.ReadCloser
}

// errCut marks what ends a transfer and is no fault of ours.
var errCut = errors.New("the transfer was cut")

// transfer gets the content into partName, and returns when it was taken. When the transfer is cut it goes on at once, as long as
// something more has come each time, and otherwise leaves to the next run what has come.
func (b *run) transfer(ctx context.Context, src Source) (taken time.Time, err error) {
	p, err := b.openPiece(src.Cluster)
	if err != nil {
		return taken, err
	}
	defer func() {
		if err = errors.Join(err, p.close()); err != nil && p.bytes == 0 {
			err = errors.Join(err, b.removePart())
		}
	}()
	for again := false; ; {
		before, resumed := p.bytes, p.bytes > 0
		err := p.receive(ctx, src, b.o.Now)
		switch {
		case errors.Is(err, errCut) && p.head.ID != "" && p.bytes > before && ctx.Err() == nil:
			b.o.Logger.Warn("going on with the transfer", "have", progress.Bytes(p.bytes), "error", err)
			continue
		case errors.Is(err, errCut) && p.head.ID == "":
			return taken, errors.Join(err, p.discard())
		case err != nil:
			return taken, err
		}
		err = etcdfile.CheckSum(ctx, b.path(partName))
		if err == nil || ctx.Err() != nil {
			return p.head.Taken, errors.Join(err, ctx.Err())
		}
		if err := p.discard(); err != nil {
			return taken, err
		}
		if !resumed || again {
			return taken, err
		}
		again = true
		b.o.Logger.Warn("what was put together of several pieces is damaged; beginning the transfer anew", "error", err)
	}
}

// receive opens a transfer, and takes what comes to its end.
func (p *piece) receive(ctx context.Context, src Source, now time.Time) (err error) {
	t, err := src.Open(ctx, Piece{ID: p.head.ID, Bytes: p.bytes})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Body.Close()) }()
	switch {
	case t.From != 0 && t.From != p.bytes:
		return fmt.Errorf("the source goes on at %d and was asked to at %d", t.From, p.bytes)
	case t.From == 0:
		if p.bytes > 0 {
			p.log.Warn("the source does not have the content of the cut transfer any more; beginning anew", "discarded", progress.Bytes(p.bytes))
		}
		if err := p.begin(pieceHead{Format: format, ID: t.ID, Cluster: src.Cluster, Taken: now.UTC()}); err != nil {
			return err
		}
	}
	ctx, line := progress.Begin(ctx, "transferring", t.Size)
	defer line.End()
	line.Reach(p.bytes)
	chunk := make([]byte, pieceBytes)
	for {
		n, err := io.ReadFull(t.Body, chunk)
		switch {
		case err == io.EOF: // and none that wraps it
			return nil
		case err == io.ErrUnexpectedEOF: // the last one is short
			_, err := p.part.Write(chunk[:n])
			return err
		case err != nil:
			return fmt.Errorf("%w after %s: %w", errCut, progress.Bytes(p.bytes+int64(n)), err)
		}
		if err := p.add(chunk); err != nil {
			return err
		}
		line.Reach(p.bytes)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
