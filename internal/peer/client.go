package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// answerBytesMax bounds an answer: a lease may have a million keys.
const answerBytesMax = 1 << 30

// errNoAddress is returned where there is nobody to ask.
var errNoAddress = errors.New("no address")

// Client asks other members questions over HTTP. Each question goes to the addresses in their order until one answers; an
// answer other than success is a *Refusal. Methods may be called from any goroutine.
type Client struct {
	// HTTP makes the requests.
	HTTP http.RoundTripper
	// Cluster is the id that the asked must have, 0 for any.
	Cluster uint64
}

// Client returns one for the members of this cluster.
func (t *Transport) Client() *Client { return &Client{HTTP: t.cfg.HTTP, Cluster: t.id.Cluster} }

// question is one request; the body is sent again for each address.
type question struct {
	method, path, kind string
	body               []byte
}

// ask returns the body and the headers of the first answer, which may be a *Refusal.
func (c *Client) ask(ctx context.Context, urls []string, q question) ([]byte, http.Header, error) {
	var errs []error
	for _, base := range urls {
		b, h, err := c.askOne(ctx, base, q)
		var r *Refusal
		if err == nil || errors.As(err, &r) {
			return b, h, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, nil, errNoAddress
	}
	return nil, nil, errors.Join(errs...)
}

func (c *Client) askOne(ctx context.Context, base string, q question) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set(headerAshlar, version.Ashlar)
	if c.Cluster != 0 {
		req.Header.Set(headerCluster, hex(c.Cluster))
	}
	if q.body != nil {
		req.Header.Set("Content-Type", q.kind)
		setBody(req, q.body)
	}
	resp, err := c.HTTP.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.Header, &Refusal{resp.StatusCode, bodyText(resp)}
	}
	if id := resp.Header.Get(headerCluster); c.Cluster != 0 && id != "" && id != hex(c.Cluster) {
		return nil, nil, ErrClusterMismatch
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	return b, resp.Header, err
}

// Members returns the members as another member knows them, and the cluster's id, with a *Refusal too where a member has refused. The error has
// ErrOpening where that one will know more soon.
func (c *Client) Members(ctx context.Context, urls []string) (clusterID uint64, all []cluster.Member, err error) {
	b, h, err := c.ask(ctx, urls, question{method: http.MethodGet, path: pathMembers})
	if err != nil {
		clusterID, _ = parseHex(h.Get(headerCluster)) // 0: it does not say
		if h.Get(headerOpening) != "" {
			err = fmt.Errorf("%w: %w", ErrOpening, err)
		}
		return clusterID, nil, err
	}
	if clusterID, err = parseHex(h.Get(headerCluster)); err != nil {
		return 0, nil, fmt.Errorf("the id of the cluster: %w", err)
	}
	all, err = decodeMembers(b)
	return clusterID, all, err
}

// Versions returns the versions of another member.
func (c *Client) Versions(ctx context.Context, urls []string) (v Versions, err error) {
	b, _, err := c.ask(ctx, urls, question{method: http.MethodGet, path: "/version"})
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(b, &v)
}

// Promote asks the leader to make a voter of a learner.
func (c *Client) Promote(ctx context.Context, urls []string, id uint64) error {
	_, _, err := c.ask(ctx, urls, question{method: http.MethodPost, path: "/members/promote/" + strconv.FormatUint(id, 10), body: []byte{}})
	return err
}

// RenewLease asks the leader to renew a lease.
func (c *Client) RenewLease(ctx context.Context, urls []string, id int64) (ttl int64, err error) {
	b, _, err := c.ask(ctx, urls, question{http.MethodPost, "/leases", typeProtobuf, leaseRequest{id: id}.encode()})
	if err != nil {
		return 0, err
	}
	s, err := decodeLeaseStatus(b)
	if err == nil && s.ID != id {
		err = fmt.Errorf("%w: an answer for lease %x in place of %x", errMalformed, s.ID, id)
	}
	return s.Remaining, err
}

// TimeToLive asks the leader how much is left of a lease.
func (c *Client) TimeToLive(ctx context.Context, urls []string, id int64, keys bool) (LeaseStatus, error) {
	body := appendBytes(nil, fieldInner, leaseRequest{id, keys}.encode())
	b, _, err := c.ask(ctx, urls, question{http.MethodPost, "/leases/internal", typeProtobuf, body})
	if err != nil {
		return LeaseStatus{}, err
	}
	in, err := inner(b)
	if err != nil {
		return LeaseStatus{}, err
	}
	s, err := decodeLeaseStatus(in)
	if err == nil && s.ID != id {
		err = fmt.Errorf("%w: an answer for lease %x in place of %x", errMalformed, s.ID, id)
	}
	return s, err
}

// HashKV asks another member for the hash of its keys up to a revision.
func (c *Client) HashKV(ctx context.Context, urls []string, revision int64) (h HashKV, err error) {
	b, err := json.Marshal(hashKVRequest{revision})
	if err != nil {
		return h, err
	}
	b, _, err = c.ask(ctx, urls, question{http.MethodGet, "/members/hashkv", "application/json", b})
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

// DowngradeEnabled asks another member whether a downgrade is under way.
func (c *Client) DowngradeEnabled(ctx context.Context, urls []string) (bool, error) {
	b, _, err := c.ask(ctx, urls, question{method: http.MethodGet, path: "/downgrade/enabled"})
	if err != nil {
		return false, err
	}
	return strconv.ParseBool(strings.TrimSpace(string(b)))
}
