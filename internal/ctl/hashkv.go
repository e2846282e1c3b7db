package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// endpointHash is the hash of one endpoint's keys.
type endpointHash struct {
	Endpoint string             `json:"Endpoint"`
	HashKV   *pb.HashKVResponse `json:"HashKV"`
}

func (s *session) endpointHashKVCommand() *cobra.Command {
	var revision int64
	c := &cobra.Command{Use: "hashkv", Short: "Prints a hash of all keys at each endpoint",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			var all []endpointHash
			failed, err := s.eachEndpoint(ctx, func(ctx context.Context, c *clientv3.Client, e string) error {
				r, err := c.HashKV(ctx, e, revision)
				if err != nil {
					fmt.Fprintf(s.Stderr, "Failed to get the hash of endpoint %s (%v)\n", e, err)
					return err
				}
				all = append(all, endpointHash{e, (*pb.HashKVResponse)(r)})
				return nil
			})
			if err != nil {
				return err
			}
			if err := s.print(hashReply(all)); err != nil {
				return err
			}
			return failed
		})}
	c.Flags().Int64Var(&revision, "rev", 0, "hash up to this revision (0: the newest)")
	return c
}

func hashReply(all []endpointHash) reply {
	row := func(e endpointHash) []string {
		return []string{e.Endpoint, fmt.Sprint(e.HashKV.GetHash()), fmt.Sprint(e.HashKV.GetHashRevision())}
	}
	return reply{json: all,
		simple: func(p *page) {
			for _, e := range all {
				p.line(strings.Join(row(e), ", "))
			}
		},
		fields: func(p *page) {
			for _, e := range all {
				p.header(e.HashKV.GetHeader())
				p.field("Endpoint", e.Endpoint)
				p.field("Hash", e.HashKV.GetHash())
				p.field("HashRevision", e.HashKV.GetHashRevision())
				p.line()
			}
		},
		table: func() *table {
			t := &table{headings: []string{"ENDPOINT", "HASH", "HASH REVISION"}}
			for _, e := range all {
				t.rows = append(t.rows, row(e))
			}
			return t
		}}
}
