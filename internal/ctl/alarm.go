package ctl

import (
	"context"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) alarmCommand() *cobra.Command {
	list := func(ctx context.Context, c *clientv3.Client) (*clientv3.AlarmResponse, error) {
		return c.AlarmList(ctx)
	}
	disarm := func(ctx context.Context, c *clientv3.Client) (*clientv3.AlarmResponse, error) {
		return c.AlarmDisarm(ctx, &clientv3.AlarmMember{}) // every alarm of every member
	}
	return s.group("alarm <subcommand>", "Alarm related commands",
		s.alarmSubcommand("disarm", "Disarms all alarms", disarm), s.alarmSubcommand("list", "Lists all alarms", list))
}

func (s *session) alarmSubcommand(use, short string,
	request func(context.Context, *clientv3.Client) (*clientv3.AlarmResponse, error)) *cobra.Command {
	return &cobra.Command{Use: use, Short: short,
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) != 0 {
				return badArguments("alarm %s command accepts no arguments", use)
			}
			return s.ask(ctx, func(ctx context.Context, c *clientv3.Client) error {
				r, err := request(ctx, c)
				if err != nil {
					return err
				}
				return s.print(alarmReply((*pb.AlarmResponse)(r)))
			})
		})}
}

func alarmReply(r *pb.AlarmResponse) reply {
	return reply{json: r, protobuf: r,
		simple: func(p *page) {
			for _, a := range r.GetAlarms() {
				p.printf("memberID:%d  alarm:%s\n", a.GetMemberID(), a.GetAlarm())
			}
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			for _, a := range r.GetAlarms() {
				p.field("MemberID", a.GetMemberID())
				p.field("AlarmType", a.GetAlarm())
				p.line()
			}
		}}
}
