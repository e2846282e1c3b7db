package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) userCommand() *cobra.Command {
	return s.group("user <subcommand>", "User related commands", s.userAddCommand(), s.userDeleteCommand(), s.userGetCommand(),
		s.userListCommand(), s.userPasswdCommand(), s.userGrantRoleCommand(), s.userRevokeRoleCommand())
}

// userAddFlags are where a new user's password comes from.
type userAddFlags struct {
	interactive, noPassword bool
	password                string
}

func (s *session) userAddCommand() *cobra.Command {
	var f userAddFlags
	c := &cobra.Command{Use: "add <user name or user:password> [options]", Short: "Adds a new user",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("user add command requires user name as its argument")
			}
			name, password, err := s.newUser(f, args[0])
			if err != nil {
				return err
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserAddWithOptions(ctx, name, password, &clientv3.UserAddOptions{NoPassword: f.noPassword})
				if err != nil {
					return err
				}
				return s.print(doneReply((*pb.AuthUserAddResponse)(r), "User %s created", name))
			})
		})}
	c.Flags().BoolVar(&f.interactive, "interactive", true, "ask for the password on the terminal; false reads it from standard input")
	c.Flags().StringVar(&f.password, "new-user-password", "", "the new user's password")
	c.Flags().BoolVar(&f.noPassword, "no-password", false, "a user that only certificates can prove to be")
	return c
}

// newUser returns the name and the password of a user that is to be added. A colon separates the two only when the
// password comes from nowhere else.
func (s *session) newUser(f userAddFlags, argument string) (name, password string, err error) {
	if f.noPassword {
		return argument, "", nil
	}
	if f.password != "" {
		return argument, f.password, nil
	}
	name, password, found := strings.Cut(argument, ":")
	if name == "" {
		return "", "", badArguments("empty user name is not allowed")
	}
	if !found {
		password, err = s.newPassword(name, f.interactive)
	}
	return name, password, err
}

func (s *session) userDeleteCommand() *cobra.Command {
	return &cobra.Command{Use: "delete <user name>", Short: "Deletes a user",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("user delete command requires user name as its argument")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserDelete(ctx, args[0])
				if err != nil {
					return err
				}
				return s.print(doneReply((*pb.AuthUserDeleteResponse)(r), "User %s deleted", args[0]))
			})
		})}
}

func (s *session) userGetCommand() *cobra.Command {
	var detail bool
	c := &cobra.Command{Use: "get <user name> [options]", Short: "Prints the roles of a user",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("user get command requires user name as its argument")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserGet(ctx, args[0])
				if err != nil {
					return err
				}
				if detail {
					return s.printRoles(ctx, c, args[0], r.Roles)
				}
				return s.print(userReply((*pb.AuthUserGetResponse)(r), args[0]))
			})
		})}
	c.Flags().BoolVar(&detail, "detail", false, "print what each of the user's roles may do")
	return c
}

func userReply(r *pb.AuthUserGetResponse, name string) reply {
	return reply{json: r, protobuf: r,
		simple: func(p *page) {
			p.printf("User: %s\nRoles:", name)
			for _, role := range r.GetRoles() {
				p.printf(" %s", role)
			}
			p.line()
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			for _, role := range r.GetRoles() {
				p.field("Role", role)
			}
		}}
}

// printRoles prints a user with all that its roles may do.
func (s *session) printRoles(ctx context.Context, c *clientv3.Client, user string, roles []string) error {
	fmt.Fprintf(s.Stdout, "User: %s\n", user)
	for _, name := range roles {
		r, err := c.RoleGet(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.Stdout)
		if err := s.print(roleReply((*pb.AuthRoleGetResponse)(r), name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) userListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists all users",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 0 {
				return badArguments("user list command requires no arguments")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserList(ctx)
				if err != nil {
					return err
				}
				m := (*pb.AuthUserListResponse)(r)
				return s.print(namesReply(m, "Users", m.GetUsers()))
			})
		})}
}

// namesReply is a list of users or roles.
func namesReply(m headed, kind string, names []string) reply {
	return reply{json: m, protobuf: m,
		simple: func(p *page) {
			for _, n := range names {
				p.line(n)
			}
		},
		fields: func(p *page) {
			p.header(m.GetHeader())
			p.printf("%q :", kind)
			for _, n := range names {
				p.printf(" %q", n)
			}
			p.line()
		}}
}

func (s *session) userPasswdCommand() *cobra.Command {
	var interactive bool
	c := &cobra.Command{Use: "passwd <user name> [options]", Short: "Changes password of user",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("user passwd command requires user name as its argument")
			}
			password, err := s.newPassword(args[0], interactive)
			if err != nil {
				return err
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserChangePassword(ctx, args[0], password)
				if err != nil {
					return err
				}
				return s.print(doneReply((*pb.AuthUserChangePasswordResponse)(r), "Password updated"))
			})
		})}
	c.Flags().BoolVar(&interactive, "interactive", true, "ask for the password on the terminal; false reads it from standard input")
	return c
}

func (s *session) userGrantRoleCommand() *cobra.Command {
	return &cobra.Command{Use: "grant-role <user name> <role name>", Short: "Grants a role to a user",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 2 {
				return badArguments("user grant command requires user name and role name as its argument")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserGrantRole(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return s.print(doneReply((*pb.AuthUserGrantRoleResponse)(r), "Role %s is granted to user %s", args[1], args[0]))
			})
		})}
}

func (s *session) userRevokeRoleCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke-role <user name> <role name>", Short: "Revokes a role from a user",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 2 {
				return badArguments("user revoke-role requires user name and role name as its argument")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.UserRevokeRole(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return s.print(doneReply((*pb.AuthUserRevokeRoleResponse)(r), "Role %s is revoked from user %s", args[1], args[0]))
			})
		})}
}
