package ctl

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// getFlags are the flags of get, on the command line and in transactions.
type getFlags struct {
	consistency, order, sortBy             string
	limit, revision                        int64
	minMod, maxMod, minCreate, maxCreate   int64
	prefix, fromKey                        bool
	keysOnly, countOnly, valueOnly, stream bool
}

func (f *getFlags) define(set *pflag.FlagSet) {
	set.StringVar(&f.consistency, "consistency", "l", "l: linearizable, s: serializable (from the member asked, perhaps old)")
	set.StringVar(&f.order, "order", "", "ASCEND or DESCEND (default: ascending)")
	set.StringVar(&f.sortBy, "sort-by", "", "what to sort by: CREATE, KEY, MODIFY, VALUE or VERSION")
	set.Int64Var(&f.limit, "limit", 0, "how many keys at most (0: all)")
	set.BoolVar(&f.prefix, "prefix", false, "every key that begins with the given one")
	set.BoolVar(&f.fromKey, "from-key", false, "every key from the given one on, in the order of bytes")
	set.Int64Var(&f.revision, "rev", 0, "read as of this revision (0: the newest)")
	set.BoolVar(&f.keysOnly, "keys-only", false, "leave the values out")
	set.BoolVar(&f.countOnly, "count-only", false, "only how many keys there are; needs -w fields")
	set.BoolVar(&f.valueOnly, "print-value-only", false, "leave the keys out of the simple form")
	set.BoolVar(&f.stream, "stream", false, "read the answer in parts")
	set.Int64Var(&f.minMod, "min-mod-rev", 0, "only keys changed at this revision or later")
	set.Int64Var(&f.maxMod, "max-mod-rev", 0, "only keys changed at this revision or before")
	set.Int64Var(&f.minCreate, "min-create-rev", 0, "only keys created at this revision or later")
	set.Int64Var(&f.maxCreate, "max-create-rev", 0, "only keys created at this revision or before")
}

var (
	sortOrders = map[string]clientv3.SortOrder{"": clientv3.SortNone, "ASCEND": clientv3.SortAscend, "DESCEND": clientv3.SortDescend}

	sortTargets = map[string]clientv3.SortTarget{"": clientv3.SortByKey, "CREATE": clientv3.SortByCreateRevision,
		"KEY": clientv3.SortByKey, "MODIFY": clientv3.SortByModRevision, "VALUE": clientv3.SortByValue,
		"VERSION": clientv3.SortByVersion}
)

// operation returns the key and the options that the flags and arguments mean.
func (f *getFlags) operation(args []string) (string, []clientv3.OpOption, error) {
	if len(args) == 0 {
		return "", nil, badArguments("get command needs one argument as key and an optional argument as range_end")
	}
	options, err := rangeOptions(args, f.prefix, f.fromKey)
	if err != nil {
		return "", nil, err
	}
	if f.keysOnly && f.countOnly {
		return "", nil, badArguments("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
	}
	switch f.consistency {
	case "s":
		options = append(options, clientv3.WithSerializable())
	case "l":
	default:
		return "", nil, badFeature("unknown consistency flag %q", f.consistency)
	}
	order, ok := sortOrders[strings.ToUpper(f.order)]
	if !ok {
		return "", nil, badFeature("bad sort order %v", f.order)
	}
	target, ok := sortTargets[strings.ToUpper(f.sortBy)]
	if !ok {
		return "", nil, badFeature("bad sort target %v", f.sortBy)
	}
	options = append(options, clientv3.WithLimit(f.limit), clientv3.WithSort(target, order),
		clientv3.WithMinModRev(f.minMod), clientv3.WithMaxModRev(f.maxMod),
		clientv3.WithMinCreateRev(f.minCreate), clientv3.WithMaxCreateRev(f.maxCreate))
	if f.revision > 0 {
		options = append(options, clientv3.WithRev(f.revision))
	}
	if f.keysOnly {
		options = append(options, clientv3.WithKeysOnly())
	}
	if f.countOnly {
		options = append(options, clientv3.WithCountOnly())
	}
	return args[0], options, nil
}

// rangeOptions returns which keys KEY [END], --prefix and --from-key mean. Further arguments are ignored.
func rangeOptions(args []string, prefix, fromKey bool) ([]clientv3.OpOption, error) {
	switch {
	case prefix && fromKey:
		return nil, badArguments("`--prefix` and `--from-key` cannot be set at the same time, choose one")
	case (prefix || fromKey) && len(args) > 1:
		return nil, badArguments("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
	case prefix:
		return []clientv3.OpOption{clientv3.WithPrefix()}, nil
	case fromKey:
		return []clientv3.OpOption{clientv3.WithFromKey()}, nil
	case len(args) > 1:
		return []clientv3.OpOption{clientv3.WithRange(args[1])}, nil
	}
	return nil, nil
}

func (s *session) getCommand() *cobra.Command {
	var f getFlags
	c := &cobra.Command{Use: "get [options] <key> [range_end]", Short: "Prints a key or a range of keys",
		RunE: s.run(func(ctx context.Context, args []string) error { return s.get(ctx, &f, args) })}
	f.define(c.Flags())
	return c
}

func (s *session) get(ctx context.Context, f *getFlags, args []string) error {
	key, options, err := f.operation(args)
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	get := c.Get
	if f.stream {
		get = func(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
			parts, err := c.GetStream(ctx, key, options...)
			if err != nil {
				return nil, err
			}
			return clientv3.GetStreamToGetResponse(parts)
		}
	}
	answer, err := get(ctx, key, options...)
	if err != nil {
		return err
	}
	// Looked at only now, as by etcdctl: what was wrong with the request comes first.
	if f.countOnly && s.settings.format != "fields" {
		return badArguments("--count-only is only for `--write-out=fields`")
	}
	if f.valueOnly && s.settings.format != "simple" {
		return badArguments("print-value-only is only for `--write-out=simple`")
	}
	return s.print(getReply((*pb.RangeResponse)(answer), f.valueOnly))
}

// getReply is what get prints; with valueOnly the simple form has no keys.
func getReply(r *pb.RangeResponse, valueOnly bool) reply {
	return reply{json: r, protobuf: r,
		simple: func(p *page) {
			for _, kv := range r.GetKvs() {
				if valueOnly {
					p.line(p.text(kv.GetValue()))
				} else {
					p.keyValue(kv)
				}
			}
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			for _, kv := range r.GetKvs() {
				p.keyValueFields("", kv)
			}
			p.field("More", r.GetMore())
			p.field("Count", r.GetCount())
		},
	}
}
