package ctl

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// pageBytes is what a scan wants a page to hold, judged by the page before.
	pageBytes   = 4 << 20
	pageKeysMax = 2000
	// pageKeysFirst is small: nothing is known about the values yet.
	pageKeysFirst = 64
)

// scan reads a range in the order of keys, all of it as of one revision, and holds one page of it at a time.
type scan struct {
	s        *session
	client   *clientv3.Client
	from     string // the first key of the next page
	end      string // not part of the range; "\x00": no end
	revision int64  // 0 until the first page has told the newest
	cluster  uint64 // known after the first page
	keysOnly bool

	page  []*mvccpb.KeyValue
	limit int64
	last  bool // the page is the last one
	count int64
}

// scanPrefix scans the keys that begin with prefix; revision 0 is the newest one.
func (s *session) scanPrefix(c *clientv3.Client, prefix string, revision int64) *scan {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, end = "\x00", "\x00"
	}
	return &scan{s: s, client: c, from: from, end: end, revision: revision, limit: pageKeysFirst}
}

// next returns the next key, nil after the last one.
func (n *scan) next(ctx context.Context) (*mvccpb.KeyValue, error) {
	if len(n.page) == 0 && !n.last {
		if err := n.read(ctx); err != nil {
			return nil, err
		}
	}
	if len(n.page) == 0 {
		return nil, nil
	}
	kv := n.page[0]
	n.page[0] = nil // a page's values go as they are read
	n.page = n.page[1:]
	return kv, nil
}

// read fetches the next page. One that is larger than an answer may be is asked for again in smaller parts.
func (n *scan) read(ctx context.Context) error {
	for {
		r, err := n.ask(ctx)
		switch {
		case err == nil:
			n.take(r)
			return nil
		case tooLarge(err) && n.limit > 1:
			n.limit = max(1, n.limit/4)
		case errors.Is(err, rpctypes.ErrCompacted):
			return fmt.Errorf("revision %d is no longer stored: it was compacted before all was read", n.revision)
		case errors.Is(err, rpctypes.ErrFutureRev):
			return fmt.Errorf("revision %d is not there yet", n.revision)
		default:
			return err
		}
	}
}

func (n *scan) ask(ctx context.Context) (*clientv3.GetResponse, error) {
	ctx, cancel := n.s.request(ctx)
	defer cancel()
	options := []clientv3.OpOption{clientv3.WithRange(n.end), clientv3.WithLimit(n.limit), clientv3.WithRev(n.revision)}
	if n.keysOnly {
		options = append(options, clientv3.WithKeysOnly())
	}
	return n.client.Get(ctx, n.from, options...)
}

func (n *scan) take(r *clientv3.GetResponse) {
	n.cluster = r.Header.GetClusterId()
	if n.revision == 0 {
		n.revision = r.Header.GetRevision()
	}
	if n.count == 0 {
		n.count = r.Count
	}
	n.page, n.last = r.Kvs, !r.More || len(r.Kvs) == 0
	size := int64(0)
	for _, kv := range r.Kvs {
		size += int64(len(kv.GetKey()) + len(kv.GetValue()))
	}
	if k := int64(len(r.Kvs)); k > 0 {
		n.from = string(r.Kvs[k-1].GetKey()) + "\x00"
		n.limit = min(pageKeysMax, 2*n.limit, max(1, pageBytes*k/max(size, 1)))
	}
}

// tooLarge tells whether this client refused an answer because of its size.
func tooLarge(err error) bool { return status.Code(err) == codes.ResourceExhausted }

// compacted returns the revision below which nothing is stored of key, 0 when nothing was compacted. Only the public
// API is used: a watch from the first revision is told where history begins.
func (s *session) compacted(ctx context.Context, c *clientv3.Client, key string) (int64, error) {
	ctx, cancel := s.request(ctx)
	defer cancel()
	_, err := c.Get(ctx, key, clientv3.WithRev(1), clientv3.WithCountOnly())
	if err == nil || !errors.Is(err, rpctypes.ErrCompacted) {
		return 0, err
	}
	for r := range c.Watch(ctx, key, clientv3.WithRev(1)) {
		if r.CompactRevision > 0 {
			return r.CompactRevision, nil
		}
		if err := r.Err(); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("asking where history begins: %w", context.Cause(ctx))
}
