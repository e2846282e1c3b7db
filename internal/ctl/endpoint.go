package ctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

func (s *session) endpointCommand() *cobra.Command {
	c := s.group("endpoint <subcommand>", "Endpoint related commands", s.endpointHealthCommand(), s.endpointStatusCommand(),
		s.endpointHashKVCommand())
	c.PersistentFlags().BoolVar(&s.settings.cluster, "cluster", false, "ask every member of the cluster")
	return c
}

// endpointHealth is what one endpoint said about its health.
type endpointHealth struct {
	Endpoint string `json:"endpoint"`
	Health   bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

func (s *session) endpointHealthCommand() *cobra.Command {
	return &cobra.Command{Use: "health", Short: "Tells whether the endpoints can serve",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if err := s.choosePrinter(); err != nil {
				return err
			}
			spec, err := s.clientSpec()
			if err != nil {
				return err
			}
			endpoints := spec.Endpoints
			if s.settings.cluster {
				if endpoints, err = s.endpoints(ctx, true); err != nil {
					return err
				}
			}
			all := make([]endpointHealth, len(endpoints))
			var wg sync.WaitGroup
			for i, e := range endpoints {
				wg.Go(func() { all[i] = s.healthOf(ctx, spec, e) })
			}
			wg.Wait()
			if err := s.print(s.healthReply(all)); err != nil {
				return err
			}
			for _, h := range all {
				if !h.Health {
					return errors.New("unhealthy cluster")
				}
			}
			return nil
		})}
}

// healthOf asks one endpoint for a linearizable read, and for alarms. It is called by several goroutines.
func (s *session) healthOf(ctx context.Context, spec clientv3.ConfigSpec, endpoint string) endpointHealth {
	h := endpointHealth{Endpoint: endpoint}
	c, err := s.atEndpoint(spec, endpoint)
	if err != nil {
		h.Error = err.Error()
		return h
	}
	defer c.Close()
	ctx, cancel := s.request(ctx)
	defer cancel()
	start := time.Now()
	_, err = c.Get(ctx, "health")
	h.Took = time.Since(start).String()
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) { // a denial was agreed on too
		h.Error = err.Error()
		return h
	}
	alarms, err := c.AlarmList(ctx)
	switch {
	case err != nil:
		h.Error = "Unable to fetch the alarm list"
	case len(alarms.Alarms) > 0:
		h.Error = "Active Alarm(s): "
		for _, a := range alarms.Alarms {
			h.Error += a.GetAlarm().String() + " "
		}
	default:
		h.Health = true
	}
	return h
}

func (s *session) healthReply(all []endpointHealth) reply {
	return reply{json: all,
		simple: func(p *page) {
			for _, h := range all {
				if h.Health {
					p.printf("%s is healthy: successfully committed proposal: took = %s\n", h.Endpoint, h.Took)
				} else {
					fmt.Fprintf(s.Stderr, "%s is unhealthy: failed to commit proposal: %s\n", h.Endpoint, h.Error)
				}
			}
		},
		fields: func(p *page) {
			for _, h := range all {
				p.field("Endpoint", h.Endpoint)
				p.field("Health", h.Health)
				p.printf("\"Took\" : %s\n", h.Took)
				p.printf("\"Error\" : %s\n\n", h.Error)
			}
		},
		table: func() *table {
			t := &table{headings: []string{"ENDPOINT", "HEALTH", "TOOK", "ERROR"}}
			for _, h := range all {
				t.rows = append(t.rows, []string{h.Endpoint, strconv.FormatBool(h.Health), h.Took, h.Error})
			}
			return t
		}}
}

// endpointStatus is what one endpoint said about itself.
type endpointStatus struct {
	Endpoint string             `json:"Endpoint"`
	Status   *pb.StatusResponse `json:"Status"`
}

func (s *session) endpointStatusCommand() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Prints what the endpoints say about themselves",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			var all []endpointStatus
			failed, err := s.eachEndpoint(ctx, func(ctx context.Context, c *clientv3.Client, e string) error {
				r, err := c.Status(ctx, e)
				if err != nil {
					fmt.Fprintf(s.Stderr, "Failed to get the status of endpoint %s (%v)\n", e, err)
					return err
				}
				all = append(all, endpointStatus{e, (*pb.StatusResponse)(r)})
				return nil
			})
			if err != nil {
				return err
			}
			if err := s.print(statusReply(all)); err != nil {
				return err
			}
			if failed != nil {
				return silent(statusError)
			}
			return nil
		})}
}

// eachEndpoint asks the endpoints one after the other. failed is the last error of ask.
func (s *session) eachEndpoint(ctx context.Context, ask func(context.Context, *clientv3.Client, string) error) (failed, err error) {
	endpoints, err := s.endpoints(ctx, s.settings.cluster)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		ctx, cancel := s.request(ctx)
		if err := ask(ctx, s.client, e); err != nil {
			failed = err
		}
		cancel()
	}
	return failed, nil
}

func statusReply(all []endpointStatus) reply {
	return reply{json: all,
		simple: func(p *page) {
			for _, e := range all {
				p.line(strings.Join(statusRow(e), ", "))
			}
		},
		fields: func(p *page) {
			for _, e := range all {
				statusFields(p, e)
			}
		},
		table: func() *table {
			t := &table{headings: []string{"ENDPOINT", "ID", "VERSION", "STORAGE VERSION", "DB SIZE", "IN USE",
				"PERCENTAGE NOT IN USE", "QUOTA", "IS LEADER", "IS LEARNER", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX",
				"ERRORS", "DOWNGRADE TARGET VERSION", "DOWNGRADE ENABLED"}}
			for _, e := range all {
				t.rows = append(t.rows, statusRow(e))
			}
			return t
		}}
}

func statusRow(e endpointStatus) []string {
	r := e.Status
	size, used := r.GetDbSize(), r.GetDbSizeInUse()
	free := int64(0)
	if size > used {
		free = 100 * (size - used) / size
	}
	return []string{e.Endpoint, fmt.Sprintf("%x", r.GetHeader().GetMemberId()), r.GetVersion(), r.GetStorageVersion(),
		progress.Bytes(size), progress.Bytes(used), fmt.Sprintf("%d%%", free), progress.Bytes(r.GetDbSizeQuota()),
		strconv.FormatBool(r.GetLeader() == r.GetHeader().GetMemberId()), strconv.FormatBool(r.GetIsLearner()),
		fmt.Sprint(r.GetRaftTerm()), fmt.Sprint(r.GetRaftIndex()), fmt.Sprint(r.GetRaftAppliedIndex()),
		strings.Join(r.GetErrors(), ", "), r.GetDowngradeInfo().GetTargetVersion(),
		strconv.FormatBool(r.GetDowngradeInfo().GetEnabled())}
}

func statusFields(p *page, e endpointStatus) {
	r := e.Status
	p.header(r.GetHeader())
	p.field("Version", r.GetVersion())
	p.field("StorageVersion", r.GetStorageVersion())
	p.field("DBSize", r.GetDbSize())
	p.field("DBSizeInUse", r.GetDbSizeInUse())
	p.field("DBSizeQuota", r.GetDbSizeQuota())
	p.field("Leader", r.GetLeader())
	p.field("IsLearner", r.GetIsLearner())
	p.field("RaftIndex", r.GetRaftIndex())
	p.field("RaftTerm", r.GetRaftTerm())
	p.field("RaftAppliedIndex", r.GetRaftAppliedIndex())
	p.field("Errors", r.GetErrors())
	p.field("Endpoint", e.Endpoint)
	p.field("DowngradeTargetVersion", r.GetDowngradeInfo().GetTargetVersion())
	p.field("DowngradeEnabled", r.GetDowngradeInfo().GetEnabled())
	p.line()
}
