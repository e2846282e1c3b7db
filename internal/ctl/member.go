package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) memberCommand() *cobra.Command {
	return s.group("member <subcommand>", "Membership related commands", s.memberAddCommand(), s.memberRemoveCommand(),
		s.memberUpdateCommand(), s.memberPromoteCommand(), s.memberListCommand())
}

// memberID reads a member's id.
func memberID(args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, badArguments("member ID is not provided")
	}
	id, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return 0, badArguments("bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

func (s *session) memberAddCommand() *cobra.Command {
	var urls string
	var learner bool
	c := &cobra.Command{Use: "add <memberName> [options]", Short: "Adds a member into the cluster",
		RunE: s.run(func(ctx context.Context, args []string) error {
			switch {
			case len(args) < 1:
				return badArguments("member name not provided")
			case len(args) > 1:
				return badArguments("too many arguments")
			case urls == "":
				return badArguments("member peer urls not provided")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				add := c.MemberAdd
				if learner {
					add = c.MemberAddAsLearner
				}
				r, err := add(ctx, strings.Split(urls, ","))
				if err != nil {
					return err
				}
				return s.print(memberAddReply((*pb.MemberAddResponse)(r), args[0]))
			})
		})}
	c.Flags().StringVar(&urls, "peer-urls", "", "where other members reach it, separated by commas")
	c.Flags().BoolVar(&learner, "learner", false, "add it without a vote")
	return c
}

// memberAddReply says in its simple form how the new member, which has that name, is to be started.
func memberAddReply(r *pb.MemberAddResponse, name string) reply {
	m := r.GetMember()
	return reply{json: r, protobuf: r,
		fields: func(p *page) {
			p.header(r.GetHeader())
			memberFields(p, m)
		},
		simple: func(p *page) {
			as := ""
			if m.GetIsLearner() {
				as = "as learner "
			}
			p.printf("Member %16x added %sto cluster %x\n", m.GetID(), as, r.GetHeader().GetClusterId())
			var cluster []string
			for _, other := range r.GetMembers() {
				n := other.GetName()
				if other.GetID() == m.GetID() {
					n = name
				}
				for _, u := range other.GetPeerURLs() {
					cluster = append(cluster, n+"="+u)
				}
			}
			p.printf("\nETCD_NAME=%q\n", name)
			p.printf("ETCD_INITIAL_CLUSTER=%q\n", strings.Join(cluster, ","))
			p.printf("ETCD_INITIAL_ADVERTISE_PEER_URLS=%q\n", strings.Join(m.GetPeerURLs(), ","))
			p.printf("ETCD_INITIAL_CLUSTER_STATE=%q\n", "existing")
		}}
}

func memberFields(p *page, m *pb.Member) {
	p.member("ID", m.GetID())
	p.field("Name", m.GetName())
	for _, u := range m.GetPeerURLs() {
		p.field("PeerURL", u)
	}
	for _, u := range m.GetClientURLs() {
		p.field("ClientURL", u)
	}
	p.field("IsLearner", m.GetIsLearner())
}

func (s *session) memberRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "remove <memberID>", Short: "Removes a member from the cluster",
		RunE: s.run(func(ctx context.Context, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			if err := s.confirm(fmt.Sprintf("This removes member %x for good: it can only come back as a new one.", id)); err != nil {
				return err
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.MemberRemove(ctx, id)
				if err != nil {
					return err
				}
				m := (*pb.MemberRemoveResponse)(r)
				return s.print(reply{json: m, protobuf: m, fields: headerFields(r.Header),
					simple: memberDone(id, "removed from", r.Header)})
			})
		})}
}

func (s *session) memberUpdateCommand() *cobra.Command {
	var urls string
	c := &cobra.Command{Use: "update <memberID> [options]", Short: "Updates a member in the cluster",
		RunE: s.run(func(ctx context.Context, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			if urls == "" {
				return badArguments("member peer urls not provided")
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.MemberUpdate(ctx, id, strings.Split(urls, ","))
				if err != nil {
					return err
				}
				m := (*pb.MemberUpdateResponse)(r)
				return s.print(reply{json: m, protobuf: m, fields: headerFields(r.Header),
					simple: memberDone(id, "updated in", r.Header)})
			})
		})}
	c.Flags().StringVar(&urls, "peer-urls", "", "where other members reach it, separated by commas")
	return c
}

func (s *session) memberPromoteCommand() *cobra.Command {
	return &cobra.Command{Use: "promote <memberID>", Short: "Gives a learner its vote",
		RunE: s.run(func(ctx context.Context, args []string) error {
			id, err := memberID(args)
			if err != nil {
				return err
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.MemberPromote(ctx, id)
				if err != nil {
					return err
				}
				m := (*pb.MemberPromoteResponse)(r)
				return s.print(reply{json: m, protobuf: m, fields: headerFields(r.Header),
					simple: memberDone(id, "promoted in", r.Header)})
			})
		})}
}

// memberDone says what happened to a member.
func memberDone(id uint64, what string, h *pb.ResponseHeader) func(*page) {
	return func(p *page) { p.printf("Member %16x %s cluster %x\n", id, what, h.GetClusterId()) }
}

func (s *session) memberListCommand() *cobra.Command {
	var consistency string
	c := &cobra.Command{Use: "list", Short: "Lists all members in the cluster",
		Long: "Lists all members in the cluster: their IDs, states, names, peer addresses, client addresses and whether they are learners.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			var options []clientv3.OpOption
			switch consistency {
			case "s":
				options = append(options, clientv3.WithSerializable())
			case "l":
			default:
				return badFeature("unknown consistency flag %q", "l") // etcdctl names its default, whatever was given
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.MemberList(ctx, options...)
				if err != nil {
					return err
				}
				return s.print(memberListReply((*pb.MemberListResponse)(r), s.settings.hex))
			})
		})}
	c.Flags().StringVar(&consistency, "consistency", "l", "l: linearizable, s: serializable (from the member asked, perhaps old)")
	return c
}

func memberListReply(r *pb.MemberListResponse, hex bool) reply {
	rep := reply{json: r, protobuf: r,
		simple: func(p *page) {
			for _, m := range r.GetMembers() {
				p.line(strings.Join(memberRow(m), ", "))
			}
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			for _, m := range r.GetMembers() {
				memberFields(p, m)
				p.line()
			}
		},
		table: func() *table {
			t := &table{headings: []string{"ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"}}
			for _, m := range r.GetMembers() {
				t.rows = append(t.rows, memberRow(m))
			}
			return t
		}}
	if hex {
		rep.json = hexMemberList(r)
	}
	return rep
}

// memberRow is a member as a line: a member that never started has told nobody its name.
func memberRow(m *pb.Member) []string {
	status := "started"
	if m.GetName() == "" {
		status = "unstarted"
	}
	return []string{fmt.Sprintf("%x", m.GetID()), status, m.GetName(), strings.Join(m.GetPeerURLs(), ","),
		strings.Join(m.GetClientURLs(), ","), strconv.FormatBool(m.GetIsLearner())}
}

// hexMember and hexHeader are a member list's JSON with --hex: the only JSON whose ids are in hexadecimal.
type hexMember struct {
	ID         string   `json:"ID"`
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peerURLs,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	IsLearner  bool     `json:"isLearner,omitempty"`
}

type hexHeader struct {
	ClusterID string `json:"cluster_id"`
	MemberID  string `json:"member_id"`
	RaftTerm  uint64 `json:"raft_term"`
}

func hexMemberList(r *pb.MemberListResponse) any {
	h := r.GetHeader()
	list := struct {
		Header  hexHeader   `json:"header"`
		Members []hexMember `json:"members,omitempty"`
	}{Header: hexHeader{fmt.Sprintf("%x", h.GetClusterId()), fmt.Sprintf("%x", h.GetMemberId()), h.GetRaftTerm()}}
	for _, m := range r.GetMembers() {
		list.Members = append(list.Members, hexMember{fmt.Sprintf("%x", m.GetID()), m.GetName(), m.GetPeerURLs(),
			m.GetClientURLs(), m.GetIsLearner()})
	}
	return list
}
