package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// delFlags are the flags of del, on the command line and in transactions.
type delFlags struct {
	prefix, fromKey, prevKV, isRange bool
}

func (f *delFlags) define(set *pflag.FlagSet) {
	set.BoolVar(&f.prefix, "prefix", false, "every key that begins with the given one")
	set.BoolVar(&f.prevKV, "prev-kv", false, "print what was deleted")
	set.BoolVar(&f.fromKey, "from-key", false, "every key from the given one on, in the order of bytes")
	set.BoolVar(&f.isRange, "range", false, "the two keys are meant as a range: do not wait")
}

// operation returns the deletion that the flags and arguments mean.
func (f *delFlags) operation(args []string) (clientv3.Op, error) {
	if len(args) == 0 || len(args) > 2 { // who names three keys means no range
		return clientv3.Op{}, badArguments("del command needs one argument as key and an optional argument as range_end")
	}
	options, err := rangeOptions(args, f.prefix, f.fromKey)
	if err != nil {
		return clientv3.Op{}, err
	}
	if f.prevKV {
		options = append(options, clientv3.WithPrevKV())
	}
	return clientv3.OpDelete(args[0], options...), nil
}

// everything tells whether no key is left out.
func (f *delFlags) everything(args []string) bool {
	first := args[0] == "" || args[0] == "\x00"
	return args[0] == "" && f.prefix || first && (f.fromKey || len(args) > 1 && args[1] == "\x00")
}

// regret is how long del waits before it deletes a range that might be two keys meant singly.
const regret = 2 * time.Second

func (s *session) delCommand() *cobra.Command {
	var f delFlags
	c := &cobra.Command{Use: "del [options] <key> [range_end]", Short: "Deletes a key or the keys in [key, range_end)",
		RunE: s.run(func(ctx context.Context, args []string) error { return s.del(ctx, &f, args) })}
	f.define(c.Flags())
	return c
}

func (s *session) del(ctx context.Context, f *delFlags, args []string) error {
	op, err := f.operation(args)
	if err != nil {
		return err
	}
	if f.everything(args) {
		if err := s.confirm("This deletes every key of the cluster."); err != nil {
			return err
		}
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	if len(args) > 1 && !f.isRange {
		fmt.Fprintf(s.Stderr, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds "+
			"to cancel. You can provide `--range` flag to avoid the delay.\n", args[0], args[1])
		select {
		case <-time.After(regret):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	answer, err := c.Do(ctx, op)
	if err != nil {
		return err
	}
	return s.print(delReply((*pb.DeleteRangeResponse)(answer.Del())))
}

func delReply(r *pb.DeleteRangeResponse) reply {
	return reply{json: r, protobuf: r,
		simple: func(p *page) {
			p.line(r.GetDeleted())
			for _, kv := range r.GetPrevKvs() {
				p.keyValue(kv)
			}
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			p.field("Deleted", r.GetDeleted())
			for _, kv := range r.GetPrevKvs() {
				p.keyValueFields("Prev", kv)
			}
		},
	}
}
