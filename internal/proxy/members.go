package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// registerRetry is the pause before registering is tried again, and registerTimeout bounds each try.
	registerRetry, registerTimeout = time.Second, 5 * time.Second
	// proxiesMax bounds the proxies that are listed as members.
	proxiesMax = 1000
)

// members answers MemberList with the proxies, so that clients that look for other members stay with them. A proxy that has a
// prefix writes itself down below it, as long as it lives, with etcd's keys and values.
type members struct {
	up        *upstream
	space     namespace
	advertise string // where clients reach this proxy
	prefix    string // empty: this proxy knows no others
	ttl       int64  // seconds
	clock     clock.Clock
	log       *slog.Logger
}

// registered is what a proxy writes down of itself.
type registered struct {
	Op       int
	Addr     string
	Metadata any // holds JSON: the proxy's name
}

func (m *members) handlers() handlers {
	if m.advertise == "" {
		return nil
	}
	return handlers{etcdserverpb.Cluster_MemberList_FullMethodName: unary(m.list)}
}

// list names the proxies that are written down, or this one alone.
func (m *members) list(ctx context.Context, _ *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	if m.prefix != "" {
		if all := m.others(ctx); len(all) > 0 {
			return &etcdserverpb.MemberListResponse{Members: all}, nil
		}
	}
	return &etcdserverpb.MemberListResponse{Members: []*etcdserverpb.Member{{Name: hostname(), ClientURLs: []string{m.advertise}}}}, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// key is what a proxy at that address writes itself down at.
func (m *members) key(address string) []byte { return m.space.key([]byte(m.prefix + "/" + address)) }

// others reads who is written down. None is the answer, too, when nobody can be asked.
func (m *members) others(ctx context.Context) []*etcdserverpb.Member {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	first := m.key("")
	answer, err := etcdserverpb.NewKVClient(m.up).Range(ctx, &etcdserverpb.RangeRequest{
		Key: first, RangeEnd: namespace(first).after(), Limit: proxiesMax})
	if err != nil {
		m.log.Warn("cannot list other proxies", "error", err)
		return nil
	}
	var out []*etcdserverpb.Member
	for _, kv := range answer.Kvs {
		var r registered
		var name struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(kv.Value, &r); err != nil || r.Addr == "" {
			m.log.Warn("what is written down of a proxy cannot be read", "key", string(kv.Key), "error", err)
			continue
		}
		if text, ok := r.Metadata.(string); ok && json.Unmarshal([]byte(text), &name) != nil {
			continue
		}
		out = append(out, &etcdserverpb.Member{Name: name.Name, ClientURLs: []string{r.Addr}})
	}
	return out
}

// register keeps the proxy written down until ctx ends.
func (m *members) register(ctx context.Context) {
	for ctx.Err() == nil {
		lease, err := m.writeDown(ctx)
		if err == nil {
			m.log.Info("registered", "address", m.advertise, "prefix", m.prefix)
			err = m.keep(ctx, lease)
		}
		if ctx.Err() != nil {
			m.strikeOut(context.WithoutCancel(ctx), lease)
			return
		}
		m.log.Warn("cannot register; trying again", "prefix", m.prefix, "error", err)
		rest(ctx, m.clock, registerRetry)
	}
}

// writeDown returns the lease that the proxy's key hangs on.
func (m *members) writeDown(ctx context.Context) (lease int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	granted, err := etcdserverpb.NewLeaseClient(m.up).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{TTL: m.ttl})
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	meta, err := json.Marshal(map[string]string{"name": hostname()})
	if err != nil {
		return granted.ID, err
	}
	value, err := json.Marshal(registered{Addr: m.advertise, Metadata: string(meta)})
	if err != nil {
		return granted.ID, err
	}
	_, err = etcdserverpb.NewKVClient(m.up).Put(ctx, &etcdserverpb.PutRequest{Key: m.key(m.advertise), Value: value, Lease: granted.ID})
	return granted.ID, err
}

// keep renews the lease until that fails for its time to live, or the lease is gone.
func (m *members) keep(ctx context.Context, lease int64) error {
	failures := 0
	for {
		rest(ctx, m.clock, max(time.Duration(m.ttl)*time.Second/3, registerRetry))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ttl, err := renew(ctx, m.up, lease)
		switch {
		case err == nil && ttl <= 0:
			return fmt.Errorf("the lease %x has ended", lease)
		case err == nil:
			failures = 0
		default:
			if failures++; failures == 3 {
				return err
			}
		}
	}
}

// renew renews a lease once, and returns its time to live in seconds, 0 if there is no such lease.
func renew(ctx context.Context, up grpc.ClientConnInterface, lease int64) (ttl int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	stream, err := etcdserverpb.NewLeaseClient(up).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: lease}); err != nil {
		return 0, err
	}
	answer, err := stream.Recv()
	return answer.GetTTL(), err
}

// strikeOut takes the proxy off the list when it stops.
func (m *members) strikeOut(ctx context.Context, lease int64) {
	if lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, registerRetry)
	defer cancel()
	if _, err := etcdserverpb.NewLeaseClient(m.up).LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: lease}); err != nil {
		m.log.Warn("this proxy stays listed until its lease ends", "error", err)
	}
}

// follow asks upstream for its members now and then, and goes to those.
func (m *members) follow(ctx context.Context, every time.Duration) {
	for {
		rest(ctx, m.clock, every)
		if ctx.Err() != nil {
			return
		}
		endpoints, err := m.upstreamEndpoints(ctx)
		if err == nil && slices.Equal(endpoints, m.up.members()) {
			continue
		}
		if err == nil {
			err = m.up.move(endpoints)
		}
		if err != nil {
			m.log.Warn("cannot learn the endpoints of the cluster", "error", err)
			continue
		}
		m.log.Info("the cluster has other endpoints", "endpoints", endpoints)
	}
}

func (m *members) upstreamEndpoints(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	answer, err := etcdserverpb.NewClusterClient(m.up).MemberList(ctx, &etcdserverpb.MemberListRequest{Linearizable: true})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, one := range answer.Members {
		if one.Name != "" && !one.IsLearner {
			out = append(out, one.ClientURLs...)
		}
	}
	return out, nil
}
