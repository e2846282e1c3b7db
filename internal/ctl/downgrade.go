package ctl

import (
	"context"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) downgradeCommand() *cobra.Command {
	return s.group("downgrade <TARGET_VERSION>", "Downgrade related commands",
		s.downgradeSubcommand("validate", "Tells whether the cluster could go back to a version", clientv3.DowngradeValidate, true),
		s.downgradeSubcommand("enable", "Lets the cluster go back to a version", clientv3.DowngradeEnable, true),
		s.downgradeSubcommand("cancel", "Ends a downgrade that is under way", clientv3.DowngradeCancel, false))
}

func (s *session) downgradeSubcommand(name, short string, action clientv3.DowngradeAction, target bool) *cobra.Command {
	use := name
	if target {
		use += " <TARGET_VERSION>"
	}
	return &cobra.Command{Use: use, Short: short,
		RunE: s.run(func(ctx context.Context, args []string) error {
			version := ""
			switch {
			case !target:
			case len(args) < 1:
				return badArguments("TARGET_VERSION not provided")
			case len(args) > 1:
				return badArguments("too many arguments")
			default:
				version = args[0]
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.Downgrade(ctx, action, version)
				if err != nil {
					return err
				}
				m := (*pb.DowngradeResponse)(r)
				return s.print(reply{json: m, protobuf: m,
					simple: func(p *page) { p.printf("Downgrade %s success, cluster version %s\n", name, m.GetVersion()) }})
			})
		})}
}
