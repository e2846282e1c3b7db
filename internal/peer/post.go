package peer

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// postTimeout bounds the posting of one message.
const postTimeout = 5 * time.Second

// The types of bodies.
const (
	typeProtobuf = "application/protobuf"
	typeState    = "application/vnd.ashlar.snapshot" // a snapshot in our own form
	typeBytes    = "application/octet-stream"        // one in etcd's
)

// postAll posts what no stream could take.
func (r *remote) postAll() {
	for {
		m := r.posts.takeOne()
		if m == nil {
			select {
			case <-r.posts.wake:
				continue
			case <-r.ctx.Done():
				return
			}
		}
		if err := r.post(m); err != nil && r.ctx.Err() == nil {
			r.log.Debug("cannot post a message", "error", err) // that the remote is not connected is told by read
			r.lost()
		}
	}
}

func (r *remote) post(m *raftpb.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.ctx, postTimeout)
	defer cancel()
	base := r.urls.current()
	req, err := r.request(ctx, http.MethodPost, base, "/raft")
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", typeProtobuf)
	setBody(req, data)
	resp, err := r.t.cfg.HTTP.RoundTrip(req)
	if err != nil {
		r.urls.failed(base)
		return err
	}
	defer resp.Body.Close()
	r.measures.Sent.Add(uint64(len(data)))
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		r.urls.failed(base)
		return r.refusal(resp)
	}
	return nil
}

func setBody(req *http.Request, data []byte) {
	req.ContentLength = int64(len(data))
	req.Body = io.NopCloser(bytes.NewReader(data))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}
