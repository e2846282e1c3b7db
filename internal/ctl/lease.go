package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) leaseCommand() *cobra.Command {
	return s.group("lease <subcommand>", "Lease related commands", s.leaseGrantCommand(), s.leaseRevokeCommand(),
		s.leaseTimeToLiveCommand(), s.leaseListCommand(), s.leaseKeepAliveCommand())
}

// leaseID reads a lease's id, which people see in hexadecimal.
func leaseID(text string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(text, 16, 64)
	if err != nil {
		return 0, badArguments("bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}

func (s *session) leaseGrantCommand() *cobra.Command {
	return &cobra.Command{Use: "grant <ttl>", Short: "Creates a lease",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("lease grant command needs TTL argument")
			}
			ttl, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return badArguments("bad TTL (%w)", err)
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			ctx, cancel := s.request(ctx)
			defer cancel()
			r, err := c.Grant(ctx, ttl)
			if err != nil {
				return fmt.Errorf("failed to grant lease (%w)", err)
			}
			return s.print(reply{json: r, protobuf: r.ResponseHeader,
				simple: func(p *page) { p.printf("lease %016x granted with TTL(%ds)\n", int64(r.ID), r.TTL) },
				fields: func(p *page) {
					p.header(r.ResponseHeader)
					p.lease("ID", int64(r.ID))
					p.field("TTL", r.TTL)
				}})
		})}
}

func (s *session) leaseRevokeCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke <leaseID>", Short: "Ends a lease and deletes its keys",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("lease revoke command needs 1 argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			ctx, cancel := s.request(ctx)
			defer cancel()
			r, err := c.Revoke(ctx, id)
			if err != nil {
				return fmt.Errorf("failed to revoke lease (%w)", err)
			}
			return s.print(reply{json: r, protobuf: r.Header,
				simple: func(p *page) { p.printf("lease %016x revoked\n", int64(id)) },
				fields: func(p *page) { p.header(r.Header) }})
		})}
}

func (s *session) leaseTimeToLiveCommand() *cobra.Command {
	var keys bool
	c := &cobra.Command{Use: "timetolive <leaseID> [options]", Short: "Prints what is left of a lease's time",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("lease timetolive command needs lease ID as argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			var options []clientv3.LeaseOption
			if keys {
				options = append(options, clientv3.WithAttachedKeys())
			}
			ctx, cancel := s.request(ctx)
			defer cancel()
			r, err := c.TimeToLive(ctx, id, options...)
			if err != nil {
				return fail(statusConnection, err)
			}
			return s.print(timeToLiveReply(r, keys))
		})}
	c.Flags().BoolVar(&keys, "keys", false, "print the keys attached too")
	return c
}

func timeToLiveReply(r *clientv3.LeaseTimeToLiveResponse, keys bool) reply {
	return reply{json: r, protobuf: r.ResponseHeader,
		simple: func(p *page) {
			if r.GrantedTTL == 0 && r.TTL == -1 {
				p.printf("lease %016x already expired\n", int64(r.ID))
				return
			}
			p.printf("lease %016x granted with TTL(%ds), remaining(%ds)", int64(r.ID), r.GrantedTTL, r.TTL)
			if keys {
				names := make([]string, len(r.Keys))
				for i, k := range r.Keys {
					names[i] = string(k)
				}
				p.printf(", attached keys(%v)", names)
			}
			p.line()
		},
		fields: func(p *page) {
			p.header(r.ResponseHeader)
			p.lease("ID", int64(r.ID))
			p.field("TTL", r.TTL)
			p.field("GrantedTTL", r.GrantedTTL)
			for _, k := range r.Keys {
				p.field("Key", k)
			}
		}}
}

func (s *session) leaseListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists leases",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			ctx, cancel := s.request(ctx)
			defer cancel()
			r, err := c.Leases(ctx)
			if err != nil {
				return fail(statusConnection, err)
			}
			return s.print(reply{json: r, protobuf: r.ResponseHeader,
				simple: func(p *page) {
					p.printf("found %d leases\n", len(r.Leases))
					for _, l := range r.Leases {
						p.printf("%016x\n", int64(l.ID))
					}
				},
				fields: func(p *page) {
					p.header(r.ResponseHeader)
					for _, l := range r.Leases {
						p.lease("ID", int64(l.ID))
					}
				}})
		})}
}

func (s *session) leaseKeepAliveCommand() *cobra.Command {
	var once bool
	c := &cobra.Command{Use: "keep-alive [options] <leaseID>", Short: "Renews a lease again and again",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("lease keep-alive command needs lease ID as argument")
			}
			id, err := leaseID(args[0])
			if err != nil {
				return err
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			if once {
				ctx, cancel := s.request(ctx)
				defer cancel()
				r, err := c.KeepAliveOnce(ctx, id)
				if err != nil {
					return fail(statusConnection, err)
				}
				return s.print(keepAliveReply(r))
			}
			return s.keepAlive(ctx, c, id)
		})}
	c.Flags().BoolVar(&once, "once", false, "renew it once")
	return c
}

// keepAlive renews a lease until it is gone.
func (s *session) keepAlive(ctx context.Context, c *clientv3.Client, id clientv3.LeaseID) error {
	renewed, err := c.KeepAlive(ctx, id)
	if err != nil {
		return fail(statusConnection, err)
	}
	for r := range renewed {
		if err := s.print(keepAliveReply(r)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil { // Ctrl-C, in the shell: the lease lives on
		return silent(statusSignal)
	}
	if s.settings.format == "simple" {
		fmt.Fprintf(s.Stdout, "lease %016x expired or revoked.\n", int64(id))
	}
	return nil
}

func keepAliveReply(r *clientv3.LeaseKeepAliveResponse) reply {
	return reply{json: r, protobuf: r.ResponseHeader,
		simple: func(p *page) { p.printf("lease %016x keepalived with TTL(%d)\n", int64(r.ID), r.TTL) },
		fields: func(p *page) {
			p.header(r.ResponseHeader)
			p.lease("ID", int64(r.ID))
			p.field("TTL", r.TTL)
		}}
}
