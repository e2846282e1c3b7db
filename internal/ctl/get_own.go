package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/kube"
)

// ownGetCommand is get with --decode. Without it, it is etcdctl's get.
func (s *session) ownGetCommand() *cobra.Command {
	var f getFlags
	var decode decoding
	c := &cobra.Command{Use: "get [options] <key> [range_end]", Short: "Prints a key or a range of keys; --decode k8s shows values of Kubernetes as YAML",
		RunE: s.run(func(ctx context.Context, args []string) error {
			switch {
			case decode == "":
				return s.get(ctx, &f, args)
			case decode.check() != nil:
				return decode.check()
			case f.keysOnly || f.countOnly:
				return badArguments("--decode needs values")
			}
			if err := s.forms("simple"); err != nil {
				return err
			}
			return s.getDecoded(ctx, &f, args)
		})}
	f.define(c.Flags())
	decode.define(c.Flags())
	return c
}

// getDecoded prints a YAML document a key. A value that is not of Kubernetes makes the command fail, after all others
// were printed.
func (s *session) getDecoded(ctx context.Context, f *getFlags, args []string) error {
	key, options, err := f.operation(args)
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	failed := false
	show := func(kv *mvccpb.KeyValue) {
		if err := s.printDecoded(kv, f.valueOnly); err != nil {
			failed = true
			fmt.Fprintf(s.Stderr, "Error: %s: %v\n", shown(kv.GetKey()), err)
		}
	}
	if f.prefix && f.plain() { // perhaps all of a large store: page by page
		err = s.eachKey(ctx, s.scanPrefix(c, key, f.revision), show)
	} else {
		err = s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Get(ctx, key, options...)
			for _, kv := range (*pb.RangeResponse)(r).GetKvs() {
				show(kv)
			}
			return err
		})
	}
	if err == nil && failed {
		return silent(statusError)
	}
	return err
}

// plain tells whether the keys come in their order, all of them.
func (f *getFlags) plain() bool {
	return f.consistency == "l" && f.order == "" && f.sortBy == "" && f.limit == 0 && f.minMod == 0 && f.maxMod == 0 && f.minCreate == 0 && f.maxCreate == 0
}

func (s *session) eachKey(ctx context.Context, n *scan, show func(*mvccpb.KeyValue)) error {
	for {
		kv, err := n.next(ctx)
		if err != nil || kv == nil {
			return err
		}
		show(kv)
	}
}

func (s *session) printDecoded(kv *mvccpb.KeyValue, valueOnly bool) error {
	text, err := kube.YAML(kv.GetValue())
	if err != nil {
		return err
	}
	head := "---\n"
	if !valueOnly {
		head += s.paint().cyan("# "+shown(kv.GetKey())) + "\n"
	}
	_, err = fmt.Fprint(s.Stdout, head+text)
	return err
}
