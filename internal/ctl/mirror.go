package ctl

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
)

// mirrorFlags are the flags of make-mirror.
type mirrorFlags struct {
	prefix, destPrefix     string
	noDestPrefix, insecure bool
	cert, key, caCert      string
	user, password         string
	revision               int64
	maxTxnOps              uint
}

func (s *session) mirrorCommand() *cobra.Command {
	var f mirrorFlags
	c := &cobra.Command{Use: "make-mirror [options] <destination>", Short: "Copies keys to another cluster, and goes on",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("make-mirror takes one destination argument")
			}
			if f.revision < 0 {
				return badArguments("--rev %d is negative", f.revision)
			}
			if f.noDestPrefix && f.destPrefix != "" {
				return badArguments("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
			}
			return s.makeMirror(ctx, &f, args[0])
		})}
	set := c.Flags()
	set.StringVar(&f.prefix, "prefix", "", "copy only keys that begin so")
	set.StringVar(&f.destPrefix, "dest-prefix", "", "what to put in place of the prefix")
	set.BoolVar(&f.noDestPrefix, "no-dest-prefix", false, "take the prefix off")
	set.StringVar(&f.cert, "dest-cert", "", "certificate of this client for the destination cluster")
	set.StringVar(&f.key, "dest-key", "", "key of that certificate")
	set.StringVar(&f.caCert, "dest-cacert", "", "authorities that the destination's certificates are checked with")
	set.BoolVar(&f.insecure, "dest-insecure-transport", true, "no TLS for a destination that does not ask for it")
	set.StringVar(&f.user, "dest-user", "", "USER[:PASSWORD] for the destination cluster")
	set.StringVar(&f.password, "dest-password", "", "password for the destination cluster; the whole of --dest-user is then the user's name")
	set.Int64Var(&f.revision, "rev", 0, "the revision to start from; 0 copies what there is first")
	set.UintVar(&f.maxTxnOps, "max-txn-ops", 128, "most operations in one transaction of the destination")
	return c
}

// makeMirror copies until it fails.
func (s *session) makeMirror(ctx context.Context, f *mirrorFlags, destination string) error {
	spec, err := s.clientSpec()
	if err != nil {
		return err
	}
	spec.Endpoints = []string{destination}
	spec.Secure = &clientv3.SecureConfig{Cert: f.cert, Key: f.key, Cacert: f.caCert, InsecureTransport: f.insecure}
	auth, err := s.credentials(f.user, f.password)
	if err != nil {
		return err
	}
	if spec.Auth = nil; !auth.Empty() {
		spec.Auth = &auth
	}
	to, err := s.dial(spec)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := s.connect()
	if err != nil {
		return err
	}
	m := &mirrorRun{flags: f, to: to, limit: s.settings.commandTimeout}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.reportMirror(ctx, m)
	return m.copy(ctx, from)
}

// reportInterval is how often a mirror says how many keys it has written.
const reportInterval = 30 * time.Second

func (s *session) reportMirror(ctx context.Context, m *mirrorRun) {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintln(s.Stdout, m.total.Load())
		case <-ctx.Done():
			return
		}
	}
}

// mirrorRun writes what changes in one cluster into another.
type mirrorRun struct {
	flags *mirrorFlags
	to    *clientv3.Client
	limit time.Duration // of a request
	total atomic.Int64  // operations written
}

// copy writes what there is and then what changes, a revision at a time where the destination allows as many
// operations at once.
func (m *mirrorRun) copy(ctx context.Context, from *clientv3.Client) error {
	revision := m.flags.revision
	if revision > 0 {
		revision-- // the mirror takes up after this one
	}
	if err := m.reach(ctx, from); err != nil {
		return err
	}
	source := mirror.NewSyncer(from, m.flags.prefix, revision)
	if revision == 0 {
		parts, failed := source.SyncBase(ctx)
		for r := range parts {
			for _, kv := range r.Kvs {
				if err := m.put(ctx, kv); err != nil {
					return err
				}
			}
		}
		if err := <-failed; err != nil {
			return err
		}
	}
	for r := range source.SyncUpdates(ctx) {
		if err := r.Err(); err != nil {
			return err
		}
		if err := m.apply(ctx, r.Events); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// reach fails when nobody answers for the source: what follows waits without end for that. It reads what the mirror may read in any case.
func (m *mirrorRun) reach(ctx context.Context, from *clientv3.Client) error {
	key := m.flags.prefix
	if key == "" {
		key = "foo"
	}
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	_, err := from.Get(ctx, key, clientv3.WithCountOnly())
	return err
}

func (m *mirrorRun) put(ctx context.Context, kv *mvccpb.KeyValue) error {
	return m.write(ctx, []clientv3.Op{clientv3.OpPut(m.rename(kv.GetKey()), string(kv.GetValue()))})
}

// apply writes events: those of one revision in one transaction, split only above the limit of operations and
// where a key comes twice, which a transaction cannot hold.
func (m *mirrorRun) apply(ctx context.Context, events []*mvccpb.Event) error {
	var ops []clientv3.Op
	last := int64(0)
	keys := map[string]bool{}
	for _, e := range events {
		key := m.rename(e.GetKv().GetKey())
		if rev := e.GetKv().GetModRevision(); rev != last || keys[key] || uint(len(ops)) >= m.flags.maxTxnOps {
			if err := m.write(ctx, ops); err != nil {
				return err
			}
			ops, last = nil, rev
			clear(keys)
		}
		keys[key] = true
		if e.GetType() == mvccpb.DELETE {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, string(e.GetKv().GetValue())))
		}
	}
	return m.write(ctx, ops)
}

func (m *mirrorRun) write(ctx context.Context, ops []clientv3.Op) error {
	if len(ops) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	if _, err := m.to.Txn(ctx).Then(ops...).Commit(); err != nil {
		return err
	}
	m.total.Add(int64(len(ops)))
	return nil
}

// rename puts a key below the destination's prefix.
func (m *mirrorRun) rename(key []byte) string {
	f := m.flags
	if !f.noDestPrefix && f.destPrefix == "" {
		return string(key)
	}
	return f.destPrefix + strings.TrimPrefix(string(key), f.prefix)
}
