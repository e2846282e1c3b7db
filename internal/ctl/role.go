package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) roleCommand() *cobra.Command {
	return s.group("role <subcommand>", "Role related commands", s.roleAddCommand(), s.roleDeleteCommand(), s.roleGetCommand(),
		s.roleListCommand(), s.roleGrantCommand(), s.roleRevokeCommand())
}

// roleSubcommand is a command about one role, which it names.
func (s *session) roleSubcommand(verb, short string,
	request func(ctx context.Context, c *clientv3.Client, role string) (reply, error)) *cobra.Command {
	return &cobra.Command{Use: verb + " <role name>", Short: short,
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return badArguments("role %s command requires role name as its argument", verb)
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := request(ctx, c, args[0])
				if err != nil {
					return err
				}
				return s.print(r)
			})
		})}
}

func (s *session) roleAddCommand() *cobra.Command {
	return s.roleSubcommand("add", "Adds a new role", func(ctx context.Context, c *clientv3.Client, role string) (reply, error) {
		r, err := c.RoleAdd(ctx, role)
		return doneReply((*pb.AuthRoleAddResponse)(r), "Role %s created", role), err
	})
}

func (s *session) roleDeleteCommand() *cobra.Command {
	return s.roleSubcommand("delete", "Deletes a role", func(ctx context.Context, c *clientv3.Client, role string) (reply, error) {
		r, err := c.RoleDelete(ctx, role)
		return doneReply((*pb.AuthRoleDeleteResponse)(r), "Role %s deleted", role), err
	})
}

func (s *session) roleGetCommand() *cobra.Command {
	return s.roleSubcommand("get", "Prints what a role may do",
		func(ctx context.Context, c *clientv3.Client, role string) (reply, error) {
			r, err := c.RoleGet(ctx, role)
			return roleReply((*pb.AuthRoleGetResponse)(r), role), err
		})
}

func roleReply(r *pb.AuthRoleGetResponse, name string) reply {
	return reply{json: r, protobuf: r,
		simple: func(p *page) {
			p.printf("Role %s\n", name)
			p.line("KV Read:")
			permissions(p, r, authpb.READ)
			p.line("KV Write:")
			permissions(p, r, authpb.WRITE)
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			for _, perm := range r.GetPerm() {
				p.line(`"PermType" : `, perm.GetPermType())
				p.field("Key", perm.GetKey())
				p.field("RangeEnd", perm.GetRangeEnd())
			}
		}}
}

// permissions prints the ranges that may be read or written.
func permissions(p *page, r *pb.AuthRoleGetResponse, kind authpb.Permission_Type) {
	for _, perm := range r.GetPerm() {
		if perm.GetPermType() != kind && perm.GetPermType() != authpb.READWRITE {
			continue
		}
		key, end := string(perm.GetKey()), string(perm.GetRangeEnd())
		p.printf("\t%s", keyRange(key, end))
		if end != "" && end != openEnd && end == clientv3.GetPrefixRangeEnd(key) {
			p.printf(" (prefix %s)", key)
		}
		p.line()
	}
}

// openEnd ends a range that has no end.
const openEnd = "\x00"

// keyRange spells a range as etcdctl does, which leaves an open one without its bracket.
func keyRange(key, end string) string {
	switch end {
	case "":
		return key
	case openEnd:
		return fmt.Sprintf("[%s, <open ended>", key)
	}
	return fmt.Sprintf("[%s, %s)", key, end)
}

func (s *session) roleListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists all roles",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 0 {
				return badArguments("role list command requires no arguments")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.RoleList(ctx)
				if err != nil {
					return err
				}
				m := (*pb.AuthRoleListResponse)(r)
				return s.print(namesReply(m, "Roles", m.GetRoles()))
			})
		})}
}

// permissionFlags say which keys a permission is for.
type permissionFlags struct{ prefix, fromKey bool }

func (f *permissionFlags) define(set *pflag.FlagSet, verb string) {
	set.BoolVar(&f.prefix, "prefix", false, verb+" every key that begins with the given one")
	set.BoolVar(&f.fromKey, "from-key", false, verb+" every key from the given one on, in the order of bytes")
}

// keys returns the range that KEY [END] and the flags mean. Arguments after END are ignored.
func (f *permissionFlags) keys(args []string) (key, end string, err error) {
	key = args[0]
	switch {
	case f.prefix && f.fromKey:
		return "", "", errors.New("--from-key and --prefix flags are mutually exclusive")
	case f.prefix && len(args) > 1:
		return "", "", errors.New("unexpected endkey argument with --prefix flag")
	case f.fromKey && len(args) > 1:
		return "", "", errors.New("unexpected endkey argument with --from-key flag")
	case (f.prefix || f.fromKey) && key == "":
		return openEnd, openEnd, nil // every key
	case f.prefix:
		return key, clientv3.GetPrefixRangeEnd(key), nil
	case f.fromKey:
		return key, openEnd, nil
	case len(args) > 1:
		return key, args[1], nil
	}
	return key, "", nil
}

func (s *session) roleGrantCommand() *cobra.Command {
	var f permissionFlags
	c := &cobra.Command{Use: "grant-permission [options] <role name> <permission type> <key> [endkey]", Short: "Lets a role read or write keys",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) < 3 {
				return badArguments("role grant command requires role name, permission type, and key [endkey] as its argument")
			}
			kind, err := clientv3.StrToPermissionType(args[1])
			if err != nil {
				return fail(statusArguments, err)
			}
			key, end, err := f.keys(args[2:])
			if err != nil {
				return fail(statusArguments, err)
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.RoleGrantPermission(ctx, args[0], key, end, kind)
				if err != nil {
					return err
				}
				return s.print(doneReply((*pb.AuthRoleGrantPermissionResponse)(r), "Role %s updated", args[0]))
			})
		})}
	f.define(c.Flags(), "grant")
	return c
}

func (s *session) roleRevokeCommand() *cobra.Command {
	var f permissionFlags
	c := &cobra.Command{Use: "revoke-permission <role name> <key> [endkey]", Short: "Takes keys from a role",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) < 2 {
				return badArguments("role revoke-permission command requires role name and key [endkey] as its argument")
			}
			key, end, err := f.keys(args[1:])
			if err != nil {
				return fail(statusArguments, err)
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.RoleRevokePermission(ctx, args[0], key, end)
				if err != nil {
					return err
				}
				what := "key"
				if end != "" {
					what = "range"
				}
				return s.print(doneReply((*pb.AuthRoleRevokePermissionResponse)(r), "Permission of %s %s is revoked from role %s",
					what, keyRange(key, end), args[0]))
			})
		})}
	f.define(c.Flags(), "revoke")
	return c
}
