package ctl

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func (s *session) electCommand() *cobra.Command {
	var listen bool
	c := &cobra.Command{Use: "elect <election-name> [proposal]", Short: "Takes part in an election, or tells who leads",
		RunE: s.run(func(ctx context.Context, args []string) error {
			switch {
			case len(args) != 1 && len(args) != 2:
				return badArguments("elect takes one election name argument and an optional proposal argument")
			case listen && len(args) == 2:
				return badArguments("proposal given but -l is set")
			case !listen && len(args) == 1:
				return badArguments("no proposal argument but -l not set")
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(ctx)
			defer stop()
			if listen {
				return s.observe(ctx, c, args[0])
			}
			return s.campaign(ctx, c, args[0], args[1])
		})}
	c.Flags().BoolVarP(&listen, "listen", "l", false, "only tell who leads")
	return c
}

// observe prints every leader until a signal comes.
func (s *session) observe(ctx context.Context, c *clientv3.Client, name string) error {
	lease, release, err := s.hold(ctx, c, sessionSeconds)
	if err != nil {
		return err
	}
	defer release()
	for r := range concurrency.NewElection(lease, name).Observe(ctx) {
		if err := s.print(getReply((*pb.RangeResponse)(r), false)); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return errors.New("elect: observer lost")
	}
	return nil
}

// campaign becomes the leader and stays it until a signal comes, then resigns.
func (s *session) campaign(ctx context.Context, c *clientv3.Client, name, proposal string) error {
	lease, release, err := s.hold(ctx, c, sessionSeconds)
	if err != nil {
		return err
	}
	defer release()
	e := concurrency.NewElection(lease, name)
	if err := e.Campaign(ctx, proposal); err != nil {
		return err
	}
	answer, err := c.Get(ctx, e.Key())
	if err != nil {
		return err
	}
	if err := s.print(getReply((*pb.RangeResponse)(answer), false)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return s.giveBack(c, e.Resign)
	case <-lease.Done():
		return errors.New("elect: session expired")
	}
}
