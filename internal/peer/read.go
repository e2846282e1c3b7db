package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// streamBuffer is the buffer of a stream's reader.
	streamBuffer = 64 << 10
	// refusalBytesMax bounds the text of a refusal that is read.
	refusalBytesMax = 1 << 10
)

// errSilent is why a stream ends that was silent for too long.
var errSilent = errors.New("no byte came for too long")

// read opens the remote's stream of one kind and takes what comes, again and again.
func (r *remote) read(k streamKind) {
	c := complaint{clock: r.t.cfg.Clock, log: r.log.With("stream", strings.Trim(k.path(), "/"))}
	for {
		err := r.readStream(k, &c)
		if r.ctx.Err() != nil {
			return
		}
		r.measures.ReceiveFailures.Inc()
		c.tell(err)
		if !r.wait(redialWait) {
			return
		}
	}
}

// readStream opens the stream and reads it to its end, of which it returns the reason.
func (r *remote) readStream(k streamKind, c *complaint) error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	silence := r.t.cfg.Clock.AfterFunc(r.t.cfg.ReadTimeout, func() { cancel(errSilent) })
	defer silence.Stop()

	base := r.urls.current()
	req, err := r.request(ctx, http.MethodGet, base, k.path()+hex(r.t.id.Member))
	if err != nil {
		return err
	}
	req.Header.Set(headerTo, hex(r.id))
	resp, err := r.t.cfg.HTTP.RoundTrip(req)
	if err != nil {
		r.urls.failed(base)
		return because(ctx, err)
	}
	defer resp.Body.Close()
	if err := r.accept(resp); err != nil {
		r.urls.failed(base)
		return err
	}
	r.setUp(k, true)
	defer r.setUp(k, false)
	c.clear()
	body := &heardReader{r: countingReader{resp.Body, &r.measures.Received}, silence: silence, limit: r.t.cfg.ReadTimeout}
	d := r.decoder(k, bufio.NewReaderSize(body, streamBuffer))
	for {
		m, err := d.next()
		if err != nil {
			return because(ctx, err)
		}
		if m != nil {
			r.t.receive(m)
		}
	}
}

func (r *remote) decoder(k streamKind, from io.Reader) decoder {
	if k == streamApp {
		return &appDecoder{frames: frames{r: from}, local: r.t.id.Member, remote: r.id}
	}
	return &messageCodec{frames{r: from}}
}

// accept says whether the answer opens a stream of this cluster.
func (r *remote) accept(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return r.refusal(resp)
	}
	if id := resp.Header.Get(headerCluster); id != "" && id != hex(r.t.id.Cluster) {
		return ErrClusterMismatch
	}
	return nil
}

// because prefers the reason for which a context ended.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// heardReader puts off the end of a stream with every byte that comes.
type heardReader struct {
	r       io.Reader
	silence clock.Timer
	limit   time.Duration
}

func (h *heardReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.silence.Reset(h.limit)
	}
	return n, err
}

// bodyText returns the beginning of an answer.
func bodyText(resp *http.Response) string {
	b, err := io.ReadAll(io.LimitReader(resp.Body, refusalBytesMax))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// complaint logs failures that come again and again, each kind now and then. It belongs to one goroutine.
type complaint struct {
	clock clock.Clock
	log   *slog.Logger
	text  string
	at    time.Time
}

func (c *complaint) tell(err error) {
	if err == nil {
		err = io.EOF
	}
	now := c.clock.Now()
	if err.Error() == c.text && now.Sub(c.at) < complainEvery {
		return
	}
	c.text, c.at = err.Error(), now
	level := slog.LevelWarn
	if errors.Is(err, io.EOF) || errors.Is(err, errUnknownHere) {
		level = slog.LevelInfo
	}
	c.log.Log(context.Background(), level, "not connected to another member", "error", err)
}

// clear says that it works now.
func (c *complaint) clear() {
	if c.text != "" {
		c.log.Info("connected to another member")
	}
	c.text = ""
}
