package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

func (s *session) authCommand() *cobra.Command {
	return s.group("auth <enable or disable>", "Enable or disable authentication",
		s.authSubcommand("enable", "Enables authentication", "", func(ctx context.Context, c *clientv3.Client) error {
			if err := enableAuth(ctx, c); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.Stdout, "Authentication Enabled")
			return err
		}),
		s.authSubcommand("disable", "Disables authentication", "Whoever reaches the cluster will read and write everything.", func(ctx context.Context, c *clientv3.Client) error {
			if _, err := c.AuthDisable(ctx); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.Stdout, "Authentication Disabled")
			return err
		}),
		s.authSubcommand("status", "Returns authentication status", "", func(ctx context.Context, c *clientv3.Client) error {
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

// enableAuth turns authentication on, and first gives root its role if it lacks it.
func enableAuth(ctx context.Context, c *clientv3.Client) error {
	const root = "root"
	_, err := c.AuthEnable(ctx)
	if !errors.Is(err, rpctypes.ErrRootRoleNotExist) {
		return err
	}
	if _, err := c.RoleAdd(ctx, root); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err
	}
	if _, err := c.UserGrantRole(ctx, root, root); err != nil {
		return err
	}
	_, err = c.AuthEnable(ctx)
	return err
}

// authSubcommand returns a command without arguments; a question, where there is one, is confirmed first.
func (s *session) authSubcommand(use, short, question string, request func(context.Context, *clientv3.Client) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short,
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 0 {
				return badArguments("auth %s command does not accept any arguments", use)
			}
			if question != "" {
				if err := s.confirm(question); err != nil {
					return err
				}
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
