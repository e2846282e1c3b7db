package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
)

// The texts are etcd's.
var (
	// ErrSizeNotFound is returned when nobody has written down how many members the cluster has: the token is unknown.
	ErrSizeNotFound = errors.New("discovery: size key not found")
	// ErrBadSizeKey is returned when what is written there is no number above 0, or too large a one.
	ErrBadSizeKey = errors.New("discovery: size key is bad")
	// ErrFullCluster is returned to a member that comes when as many as the cluster has were there before.
	ErrFullCluster = errors.New("discovery: cluster is full")
	// ErrInvalidURL is returned when a founding member has registered no addresses that can be used.
	ErrInvalidURL = errors.New("discovery: invalid peer URL")
	// ErrDuplicateURL is returned when two founding members have registered one address.
	ErrDuplicateURL = errors.New("discovery: cluster has duplicate url")
)

const (
	registryPrefix = "/_etcd/registry"
	// sizeMax bounds the members that a registry may ask for.
	sizeMax = 1000
	// retryFirst and retryMax bound the pause before a registry that does not answer is asked again.
	retryFirst, retryMax = time.Second, 30 * time.Second
)

// Registry is the place of one cluster in a discovery service.
type Registry struct {
	client  *clientv3.Client
	token   string
	timeout time.Duration
	clock   clock.Clock
	log     *slog.Logger
}

// OpenRegistry returns the registry that the settings name. It reads the files of certificates and logs in where there is a
// user. The caller closes it.
func OpenRegistry(d *config.Discovery, c clock.Clock, log *slog.Logger) (*Registry, error) {
	cfg, err := clientv3.NewClientConfig(ClientSpec(d), zap.NewNop())
	if err != nil {
		return nil, err
	}
	cfg.Logger = zap.NewNop() // what matters comes back as an error
	if d.ServerName != "" && cfg.TLS != nil {
		// gRPC verifies the name that it dials, whatever name is in the configuration of TLS.
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithAuthority(d.ServerName))
	}
	client, err := clientv3.New(*cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the discovery service: %w", err)
	}
	return &Registry{client: client, token: d.Token, timeout: d.RequestTimeout, clock: c, log: log.With("part", "discovery")}, nil
}

// ClientSpec says how the registry is spoken to.
func ClientSpec(d *config.Discovery) *clientv3.ConfigSpec {
	spec := &clientv3.ConfigSpec{Endpoints: d.Endpoints, DialTimeout: d.DialTimeout, RequestTimeout: d.RequestTimeout,
		KeepAliveTime: d.KeepAliveTime, KeepAliveTimeout: d.KeepAliveTimeout,
		MaxCallSendMsgSize: d.MaxRequestBytes, MaxCallRecvMsgSize: d.MaxRecvBytes,
		Secure: &clientv3.SecureConfig{Cert: d.Cert, Key: d.Key, Cacert: d.CA, ServerName: d.ServerName,
			InsecureTransport: d.Insecure, InsecureSkipVerify: d.SkipVerify}}
	if d.User != "" || d.Password != "" || d.AuthToken != "" {
		spec.Auth = &clientv3.AuthConfig{Username: d.User, Password: d.Password, Token: d.AuthToken}
	}
	return spec
}

// Close ends the connections to the discovery service.
func (r *Registry) Close() error { return r.client.Close() }

// founder is a member as it has registered.
type founder struct {
	id, urls string // urls has the form NAME=URL,NAME=URL…
	created  int64  // the revision of registering
}

// Join registers the member with that id, whose addresses have the form NAME=URL,NAME=URL…, waits until the cluster has all
// its founding members, and returns them in the form of --initial-cluster. It waits until ctx ends.
func (r *Registry) Join(ctx context.Context, id, urls string) (string, error) {
	// Look before registering: a cluster that is full must not be written to.
	if _, _, _, err := r.look(ctx, id); err != nil {
		return "", err
	}
	if err := r.retry(ctx, "register", func(ctx context.Context) error {
		_, err := r.client.Put(ctx, r.memberKey(id), urls)
		return err
	}); err != nil {
		return "", err
	}
	r.log.Info("register self", "id", id, "urls", urls)
	founders, size, revision, err := r.look(ctx, id)
	if err != nil {
		return "", err
	}
	if founders, err = r.await(ctx, id, founders, size, revision); err != nil {
		return "", err
	}
	return initialCluster(founders)
}

// look returns who has registered, the first ones first and at most as many as the cluster has, how many that is, and the
// revision at which this was so. It returns ErrFullCluster when they are all there and the member with that id is not one of
// them.
func (r *Registry) look(ctx context.Context, id string) (founders []founder, size int, revision int64, err error) {
	if err = r.retry(ctx, "size", func(ctx context.Context) error {
		answer, err := r.client.Get(ctx, path.Join(registryPrefix, r.token, "_config/size"))
		if err != nil {
			return err
		}
		size, err = parseSize(answer.Kvs)
		return err
	}); err != nil {
		return nil, 0, 0, err
	}
	if err = r.retry(ctx, "members", func(ctx context.Context) error {
		answer, err := r.client.Get(ctx, r.memberKey("")+"/", clientv3.WithPrefix(),
			clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(int64(size)))
		if err != nil {
			return err
		}
		founders, revision = nil, answer.Header.Revision
		for _, kv := range answer.Kvs {
			founders = append(founders, r.founderOf(kv))
		}
		return nil
	}); err != nil {
		return nil, 0, 0, err
	}
	if len(founders) == size && !slices.ContainsFunc(founders, func(f founder) bool { return f.id == id }) {
		return nil, 0, 0, ErrFullCluster
	}
	return founders, size, revision, nil
}

// await returns the founders once there are size of them, for the member with that id.
func (r *Registry) await(ctx context.Context, id string, founders []founder, size int, revision int64) ([]founder, error) {
	if len(founders) < size {
		r.log.Info("waiting for others", "have", len(founders), "need", size-len(founders))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for pause := retryFirst; len(founders) < size; pause = min(2*pause, retryMax) {
		watch, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for answer := range r.client.Watch(watch, r.memberKey("")+"/", clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
			if err := answer.Err(); err != nil {
				r.log.Warn("waiting for others", "error", err)
				break
			}
			for _, e := range answer.Events {
				revision = max(revision, e.Kv.ModRevision)
				f := r.founderOf(e.Kv)
				known := slices.ContainsFunc(founders, func(k founder) bool { return k.id == f.id })
				if e.Type == mvccpb.Event_PUT && !known && len(founders) < size {
					founders = append(founders, f)
					r.log.Info("found a member", "id", f.id, "urls", f.urls, "need", size-len(founders))
				}
			}
			if len(founders) == size {
				break
			}
		}
		stop()
		if len(founders) == size {
			break
		}
		if err := r.sleep(ctx, pause); err != nil {
			return nil, err
		}
		// The registry may have compacted what was to be watched: look again.
		fresh, _, at, err := r.look(ctx, id)
		if err != nil {
			return nil, err
		}
		founders, revision = fresh, at
	}
	return founders, nil
}

// retry does something until it goes well, fails for good, or ctx ends.
func (r *Registry) retry(ctx context.Context, what string, do func(ctx context.Context) error) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMax) {
		try, cancel := context.WithCancel(ctx)
		if r.timeout > 0 {
			try, cancel = context.WithTimeout(ctx, r.timeout)
		}
		err := do(try)
		cancel()
		if err == nil || errors.Is(err, ErrSizeNotFound) || errors.Is(err, ErrBadSizeKey) {
			return err
		}
		r.log.Warn("the discovery service does not answer; it is asked again", "what", what, "error", err, "after", pause.String())
		if err := r.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (r *Registry) sleep(ctx context.Context, d time.Duration) error {
	timer := r.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("discovery: %w", ctx.Err())
	}
}

func (r *Registry) memberKey(id string) string {
	return path.Join(registryPrefix, r.token, "members", id)
}

func (r *Registry) founderOf(kv *mvccpb.KeyValue) founder {
	return founder{id: strings.TrimPrefix(string(kv.Key), r.memberKey("")+"/"), urls: string(kv.Value), created: kv.CreateRevision}
}

// parseSize reads how many members a cluster is to have.
func parseSize(kvs []*mvccpb.KeyValue) (int, error) {
	if len(kvs) == 0 {
		return 0, ErrSizeNotFound
	}
	size, err := strconv.Atoi(string(kvs[0].Value))
	if err != nil || size <= 0 || size > sizeMax {
		return 0, ErrBadSizeKey
	}
	return size, nil
}

// initialCluster joins what the founders have registered.
func initialCluster(founders []founder) (string, error) {
	slices.SortFunc(founders, func(a, b founder) int { return int(a.created - b.created) })
	seen := map[string]bool{}
	var parts []string
	for _, f := range founders {
		for _, pair := range strings.Split(f.urls, ",") {
			name, addr, ok := strings.Cut(pair, "=")
			u, err := url.Parse(addr)
			if !ok || err != nil || name == "" || u.Host == "" && u.Path == "" || u.Scheme == "" {
				return "", fmt.Errorf("%w: member %s registered %q", ErrInvalidURL, f.id, pair)
			}
			if seen[addr] {
				return "", fmt.Errorf("%w: %s", ErrDuplicateURL, addr)
			}
			seen[addr] = true
			parts = append(parts, pair)
		}
	}
	return strings.Join(parts, ","), nil
}
