package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) moveLeaderCommand() *cobra.Command {
	return &cobra.Command{Use: "move-leader <transferee-member-id>", Short: "Makes another member the leader",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("move-leader command needs 1 argument")
			}
			target, err := strconv.ParseUint(args[0], 16, 64)
			if err != nil {
				return fail(statusArguments, err)
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				return s.moveLeader(ctx, c, target)
			})
		})}
}

// moveLeader finds the leader among the endpoints: only it can hand its role on.
func (s *session) moveLeader(ctx context.Context, c *clientv3.Client, target uint64) error {
	for _, e := range c.Endpoints() {
		status, err := c.Status(ctx, e)
		if err != nil {
			return err
		}
		leader := status.Leader
		if status.Header.GetMemberId() != leader {
			continue
		}
		c.SetEndpoints(e)
		if _, err := c.MoveLeader(ctx, target); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Stdout, "Leadership transferred from %x to %x\n", leader, target)
		return err
	}
	return badArguments("no leader endpoint given at %v", c.Endpoints())
}
