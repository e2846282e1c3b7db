package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

func (s *session) authCommand() *cobra.Command {
	return s.group("auth <enable or disable>", "Enable or disable authentication",
		s.authSubcommand("enable", "Enables authentication", func(ctx context.Context, c *clientv3.Client) error {
			if _, err := c.AuthEnable(ctx); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.Stdout, "Authentication Enabled")
			return err
		}),
		s.authSubcommand("disable", "Disables authentication", func(ctx context.Context, c *clientv3.Client) error {
			if _, err := c.AuthDisable(ctx); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.Stdout, "Authentication Disabled")
			return err
		}),
		s.authSubcommand("status", "Returns authentication status", func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.AuthStatus(ctx)
			if err != nil {
				return err
			}
			m := (*pb.AuthStatusResponse)(r)
			return s.print(reply{json: m, protobuf: m, simple: func(p *page) {
				p.line("Authentication Status:", m.GetEnabled())
				p.line("AuthRevision:", m.GetAuthRevision())
			}})
		}))
}

func (s *session) authSubcommand(use, short string, request func(context.Context, *clientv3.Client) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short,
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 0 {
				return badArguments("auth %s command does not accept any arguments", use)
			}
			return s.ask(ctx, request)
		})}
}

// headed is an answer with a header.
type headed interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}

// doneReply is an answer that says no more than that something was done: its simple form is a sentence of ours.
func doneReply(m headed, format string, args ...any) reply {
	return reply{json: m, protobuf: m, fields: headerFields(m.GetHeader()),
		simple: func(p *page) { p.printf(format+"\n", args...) }}
}
