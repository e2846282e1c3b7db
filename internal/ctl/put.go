package ctl

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// putFlags are the flags of put, on the command line and in transactions.
type putFlags struct {
	lease                            string
	prevKV, ignoreValue, ignoreLease bool
}

func (f *putFlags) define(set *pflag.FlagSet) {
	set.StringVar(&f.lease, "lease", "0", "the lease, in hexadecimal, that the key is attached to")
	set.BoolVar(&f.prevKV, "prev-kv", false, "print what the key was before")
	set.BoolVar(&f.ignoreValue, "ignore-value", false, "keep the key's value")
	set.BoolVar(&f.ignoreLease, "ignore-lease", false, "keep the key's lease")
}

func badPut() error {
	return badArguments("put command needs 1 argument and input from stdin or 2 arguments")
}

// operation returns the put that the flags and arguments mean. A missing value is read from input, unless that is
// nil; nothing is none.
func (f *putFlags) operation(args []string, input io.Reader) (clientv3.Op, error) {
	if len(args) == 0 {
		return clientv3.Op{}, badPut()
	}
	value := ""
	switch {
	case f.ignoreValue && len(args) > 1:
		return clientv3.Op{}, badArguments("put command needs only 1 argument when 'ignore-value' is set")
	case f.ignoreValue:
	case len(args) > 1:
		value = args[1]
	case input == nil:
		return clientv3.Op{}, badPut()
	default:
		all, err := io.ReadAll(input)
		if err != nil {
			return clientv3.Op{}, fmt.Errorf("reading the value from standard input: %w", err)
		}
		if len(all) == 0 { // whatever was to give the value may have failed: the key is not emptied for that
			return clientv3.Op{}, badPut()
		}
		value = string(all)
	}
	lease, err := strconv.ParseInt(f.lease, 16, 64)
	if err != nil {
		return clientv3.Op{}, badArguments("bad lease ID (%w), expecting ID in Hex", err)
	}
	var options []clientv3.OpOption
	if lease != 0 {
		options = append(options, clientv3.WithLease(clientv3.LeaseID(lease)))
	}
	if f.prevKV {
		options = append(options, clientv3.WithPrevKV())
	}
	if f.ignoreValue {
		options = append(options, clientv3.WithIgnoreValue())
	}
	if f.ignoreLease {
		options = append(options, clientv3.WithIgnoreLease())
	}
	return clientv3.OpPut(args[0], value, options...), nil
}

func (s *session) putCommand() *cobra.Command {
	var f putFlags
	c := &cobra.Command{Use: "put [options] <key> <value> (<value> can also be given from stdin)",
		Short: "Writes a key",
		Long: "Writes a key.\n\nA value that begins with '-' is taken for a flag; put '--' before the key, " +
			"or give it on standard input.\nIf <value> is not given, it is read from standard input, where nothing is refused; an empty value is given as ''.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			op, err := f.operation(args, s.input)
			if err != nil {
				return err
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				answer, err := c.Do(ctx, op)
				if err != nil {
					return err
				}
				return s.print(putReply((*pb.PutResponse)(answer.Put())))
			})
		})}
	f.define(c.Flags())
	return c
}

func putReply(r *pb.PutResponse) reply {
	return reply{json: r, protobuf: r,
		simple: func(p *page) {
			p.line("OK")
			if kv := r.GetPrevKv(); kv != nil {
				p.keyValue(kv)
			}
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			if kv := r.GetPrevKv(); kv != nil {
				p.keyValueFields("Prev", kv)
			}
		},
	}
}
