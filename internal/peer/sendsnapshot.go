package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// snapshotStall is how long the sending of a snapshot may make no progress.
	snapshotStall = 30 * time.Second
	// snapshotFinish is how long a receiver may take once it has everything: it writes to the disk what it still has in memory, a member of
	// etcd perhaps the whole database, and nothing tells meanwhile how far it is. That it is gone the connection tells. Whoever gives it up
	// sends the state once more, while it needs the log behind the first one.
	snapshotFinish = 30 * time.Minute
)

// Database is a state that can also be had as etcd's database file.
type Database interface {
	// Database returns the file of the very state, its size, and what the message must carry beside it for members of
	// etcd (their v2 store). The caller closes the file, and the state after it.
	Database(ctx context.Context) (file io.ReadCloser, size int64, data []byte, err error)
}

// errStalled is why a snapshot ends of which nothing was taken for snapshotStall, or that was not finished in time.
var errStalled = errors.New("the receiver takes nothing")

// goSnapshot sends a snapshot in a goroutine of its own. It reports false, and does nothing, when the remote is forgotten.
func (r *remote) goSnapshot(m *raftpb.Message, state io.ReadCloser) bool {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	r.t.wg.Go(func() {
		begin := r.t.cfg.Clock.Now()
		err := r.measures.SnapshotsSent.run(r.t.cfg.Clock.Now, func() error {
			return errors.Join(r.snapshot(m, state), state.Close())
		})
		log := r.log.With("index", m.GetSnapshot().GetMetadata().GetIndex(), "took", r.t.cfg.Clock.Now().Sub(begin))
		if err != nil {
			log.Warn("cannot send a snapshot", "error", err)
			r.lost()
		} else {
			log.Info("sent a snapshot")
		}
		r.t.raft.ReportSnapshot(r.id, err == nil)
	})
	return true
}

// snapshot sends one, in the form that the remote understands.
func (r *remote) snapshot(m *raftpb.Message, state io.ReadCloser) (err error) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	stall := r.t.cfg.Clock.AfterFunc(snapshotStall, func() { cancel(errStalled) })
	defer stall.Stop()

	base := r.urls.current()
	ours, err := r.isOurs(ctx, base)
	if err != nil {
		r.urls.failed(base)
		return because(ctx, err)
	}
	kind, body, size := typeState, io.Reader(state), int64(-1)
	if !ours {
		db, ok := state.(Database)
		if !ok {
			return errors.New("the member needs a database of etcd, which there is none of")
		}
		// However large: it is on the way as long as this process lives.
		stall.Stop()
		file, n, data, err := db.Database(ctx)
		if err != nil {
			return fmt.Errorf("make a database of etcd: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		stall.Reset(snapshotStall)
		m = proto.Clone(m).(*raftpb.Message)
		m.Snapshot.Data = data
		kind, body, size = typeBytes, file, n
	}
	return because(ctx, r.postSnapshot(ctx, base, m, kind, &progressReader{r: body, stall: stall}, size))
}

// postSnapshot posts a message and its state, size bytes long or -1 when that is not known.
func (r *remote) postSnapshot(ctx context.Context, base string, m *raftpb.Message, kind string, state io.Reader, size int64) error {
	head, err := appendFramed(nil, m)
	if err != nil {
		return err
	}
	req, err := r.request(ctx, http.MethodPost, base, "/raft/snapshot")
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	body := &guardedBody{r: countingReader{io.MultiReader(bytes.NewReader(head), state), &r.measures.Sent}}
	defer body.Close() // nothing is read of the state after it
	req.Body = body
	req.ContentLength = -1
	if size >= 0 {
		req.ContentLength = int64(len(head)) + size
	}
	resp, err := r.t.cfg.HTTP.RoundTrip(req)
	if err != nil {
		r.urls.failed(base)
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		return r.refusal(resp)
	}
	return nil
}

// isOurs asks whether the remote is a member of our kind: it says so in every answer.
func (r *remote) isOurs(ctx context.Context, base string) (bool, error) {
	req, err := r.request(ctx, http.MethodGet, base, "/raft/probing")
	if err != nil {
		return false, err
	}
	resp, err := r.t.cfg.HTTP.RoundTrip(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, r.refusal(resp)
	}
	_ = bodyText(resp) // read to its end, so that the connection can be used again
	return resp.Header.Get(headerAshlar) != "", nil
}

// progressReader puts off the end of a snapshot with every read, and for longer with the last one.
type progressReader struct {
	r     io.Reader
	stall clock.Timer
}

func (p *progressReader) Read(b []byte) (int, error) {
	p.stall.Reset(snapshotStall)
	n, err := p.r.Read(b)
	if errors.Is(err, io.EOF) {
		p.stall.Reset(snapshotFinish)
	}
	return n, err
}

// guardedBody is a body of which nothing is read any more once Close has returned: HTTP may go on reading after the request has
// failed.
type guardedBody struct {
	mu     sync.Mutex
	r      io.Reader
	closed bool
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	return b.r.Read(p)
}

func (b *guardedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}
