package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) defragCommand() *cobra.Command {
	c := &cobra.Command{Use: "defrag", Short: "Gives unused space of the endpoints back",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			failed, err := s.eachEndpoint(ctx, func(ctx context.Context, c *clientv3.Client, e string) error {
				start := time.Now()
				_, err := c.Defragment(ctx, e)
				took := time.Since(start)
				if err != nil {
					fmt.Fprintf(s.Stderr, "Failed to defragment etcd member[%s]. took %s (%v)\n", e, took, err)
					return err
				}
				fmt.Fprintf(s.Stdout, "Finished defragmenting etcd member[%s]. took %s\n", e, took)
				return nil
			})
			if err == nil && failed != nil {
				err = silent(statusError)
			}
			return err
		})}
	c.Flags().BoolVar(&s.settings.cluster, "cluster", false, "ask every member of the cluster")
	return c
}
