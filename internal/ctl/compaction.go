package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) compactionCommand() *cobra.Command {
	var physical bool
	c := &cobra.Command{Use: "compaction [options] <revision>", Aliases: []string{"compact"},
		Short: "Forgets what keys were before a revision",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("compaction command needs 1 argument")
			}
			revision, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fail(statusError, err) // as etcdctl, though an argument is wrong
			}
			var options []clientv3.CompactOption
			if physical {
				options = append(options, clientv3.WithCompactPhysical())
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				if _, err := c.Compact(ctx, revision, options...); err != nil {
					return err
				}
				_, err := fmt.Fprintln(s.Stdout, "compacted revision", revision)
				return err
			})
		})}
	c.Flags().BoolVar(&physical, "physical", false, "wait until the removed revisions are gone from the store")
	return c
}
