package observe

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// exercise does something of everything at a cluster.
func exercise(t *testing.T, members []member) {
	t.Helper()
	ctx := within(t)
	c := connect(t, members[0])
	for i := range 200 {
		eventually(t, func() string { // an election, which a busy machine has at any time, ends it without an answer
			if _, err := c.Put(ctx, fmt.Sprintf("/observe/keys/%d", i%20), "value"); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	eventually(t, func() string {
		p, err := get(ctx, "http://"+members[0].client+"/readyz")
		if err != nil || p.status != 200 {
			return fmt.Sprintf("/readyz: %v, %d", err, p.status)
		}
		return ""
	})
	if _, err := c.Get(ctx, "/observe/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
}

// all scrapes all members and returns the families of all of them.
func all(t *testing.T, members []member) scrape {
	t.Helper()
	ctx := within(t)
	s := scraped(t, ctx, members[0].client)
	for _, m := range members[1:] {
		s.add(scraped(t, ctx, m.client))
	}
	return s
}

func TestEveryMetricOfEtcdIsThere(t *testing.T) {
	t.Parallel()
	members := start(t, 3, extensive)
	exercise(t, members)
	text, err := os.ReadFile("testdata/etcd-3.7.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	// Some come only with the first probe of another member.
	eventually(t, func() string {
		s := all(t, members)
		var wrong []string
		for line := range strings.Lines(string(text)) {
			if x := strings.Fields(line); !strings.HasPrefix(line, "#") {
				if complaint := s.compare(x[0], x[1], x[2], x[3]); complaint != "" {
					wrong = append(wrong, x[0]+": "+complaint)
				}
			}
		}
		return strings.Join(wrong, "\n")
	})
}

// compare says what differs from a metric of etcd, "" for nothing.
func (s scrape) compare(name, kind, labels, bounds string) string {
	f := s.families[name]
	if f == nil {
		return "missing"
	}
	if f.kind != kind {
		return fmt.Sprintf("is a %s, want %s", f.kind, kind)
	}
	got := strings.Join(slices.Sorted(maps.Keys(f.labels)), ",")
	if got == "" {
		got = "-"
	}
	if got != labels {
		return fmt.Sprintf("labels %s, want %s", got, labels)
	}
	if f.help == "" {
		return "no help"
	}
	if bounds == "-" {
		return ""
	}
	same := slices.EqualFunc(f.bounds, strings.Split(bounds, ","), func(a float64, text string) bool {
		b, err := strconv.ParseFloat(text, 64)
		return err == nil && math.Abs(a-b) <= 1e-9*b
	})
	if !same {
		return fmt.Sprintf("bounds %v, want %s", f.bounds, bounds)
	}
	return ""
}

func TestFiguresAreTrue(t *testing.T) {
	t.Parallel()
	members := start(t, 1, extensive)
	ctx, c := within(t), connect(t, members[0])
	before := scraped(t, ctx, members[0].client)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 7 {
		_, err := c.Put(ctx, fmt.Sprint("k", i), "12345678")
		do(err)
	}
	_, err := c.Delete(ctx, "k0")
	do(err)
	_, err = c.Get(ctx, "k", clientv3.WithPrefix())
	do(err)
	_, err = c.Get(ctx, "k", clientv3.WithRev(1000))
	if err == nil {
		t.Fatal("a range of the future was answered")
	}
	kv := etcdserverpb.NewKVClient(c.ActiveConnection())
	_, err = kv.Range(ctx, &etcdserverpb.RangeRequest{})
	if err == nil {
		t.Fatal("a range of no key was answered")
	}
	for revision, want := range map[int64]codes.Code{0: codes.OK, 1000: codes.OutOfRange} {
		stream, err := kv.RangeStream(ctx, &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Revision: revision})
		for err == nil {
			_, err = stream.Recv()
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if status.Code(err) != want {
			t.Fatalf("a stream at revision %d ended with %v", revision, err)
		}
	}
	_, err = c.Txn(ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpGet("a"), clientv3.OpDelete("b")).Commit()
	do(err)
	lease, err := c.Grant(ctx, 1000)
	do(err)
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	do(err)
	_, err = c.Revoke(ctx, lease.ID)
	do(err)
	_, err = c.Put(ctx, "k1", "x", clientv3.WithLease(lease.ID))
	if err == nil {
		t.Fatal("a put on no lease succeeded")
	}
	lease, err = c.Grant(ctx, 1000)
	do(err)
	for _, key := range []string{"l1", "l2"} {
		_, err = c.Put(ctx, key, "1", clientv3.WithLease(lease.ID))
		do(err)
	}
	_, err = c.Revoke(ctx, lease.ID)
	do(err)
	events := c.Watch(ctx, "w")
	_, err = c.Put(ctx, "w", "1")
	do(err)
	<-events
	_, err = c.Compact(ctx, 5)
	do(err)

	want := map[string]float64{
		"etcd_mvcc_put_total": 11, "etcd_mvcc_delete_total": 4, "etcd_mvcc_range_total": 6, "etcd_mvcc_txn_total": 2,
		`etcd_server_range_duration_seconds_count{success="true"}`: 2,
		"etcd_debugging_mvcc_keys_total":                           8, "etcd_debugging_mvcc_current_revision": 13,
		"etcd_debugging_mvcc_total_put_size_in_bytes": 7*10 + 2 + 2 + 2*3,
		"etcd_debugging_lease_granted_total":          2, "etcd_debugging_lease_renewed_total": 1, "etcd_debugging_lease_revoked_total": 2,
		"etcd_debugging_lease_ttl_total_sum":   2000,
		"etcd_debugging_mvcc_compact_revision": 6, // from -1
		"etcd_debugging_mvcc_watcher_total":    1, "etcd_debugging_mvcc_watch_stream_total": 1, "etcd_debugging_mvcc_events_total": 1,
		`etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}`:                                         10,
		`etcd_server_apply_duration_seconds_count{op="Put",success="false",version="v3"}`:                                        1,
		`etcd_server_apply_duration_seconds_count{op="LeaseGrant",success="true",version="v3"}`:                                  2,
		`etcd_server_request_duration_seconds_count{success="true",type="Put"}`:                                                  11,
		`etcd_server_request_duration_seconds_count{success="true",type="Range"}`:                                                1,
		`etcd_server_range_duration_seconds_count{success="false"}`:                                                              2,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`:           10,
		`grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}`: 1,
		`grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}`:               1,
		`grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`:                 11,
		`grpc_server_msg_sent_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`:                         11,
		`grpc_server_msg_sent_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}`:                       3,
		`grpc_server_msg_received_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}`: 2,
	}
	eventually(t, func() string {
		after := scraped(t, ctx, members[0].client)
		var wrong []string
		for name, n := range want {
			if got := after.values[name] - before.values[name]; got != n {
				wrong = append(wrong, fmt.Sprintf("%s grew by %v, want %v", name, got, n))
			}
		}
		if after.values["etcd_debugging_mvcc_db_compaction_keys_total"] == 0 && after.values["etcd_debugging_mvcc_db_compaction_last"] == 0 {
			wrong = append(wrong, "no compaction is told")
		}
		for _, name := range []string{"etcd_server_is_leader", "etcd_server_has_leader"} {
			if after.values[name] != 1 {
				wrong = append(wrong, name+" is not 1")
			}
		}
		for _, name := range []string{
			"etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_count", "etcd_disk_wal_write_bytes_total",
			"etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes", "etcd_network_client_grpc_sent_bytes_total",
			"ashlar_leader_election_duration_seconds_count", "os_fd_used", "os_fd_limit",
		} {
			if after.values[name] <= 0 {
				wrong = append(wrong, name+" is not above 0")
			}
		}
		slices.Sort(wrong)
		return strings.Join(wrong, "\n")
	})
}

func TestAlarmsAreTold(t *testing.T) {
	t.Parallel()
	members := start(t, 1, func(int) []string { return nil })
	ctx := within(t)
	maintenance := etcdserverpb.NewMaintenanceClient(connect(t, members[0]).ActiveConnection())
	const series = `etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="1f"}`
	for _, c := range []struct {
		action etcdserverpb.AlarmRequest_AlarmAction
		want   float64
	}{
		{etcdserverpb.AlarmRequest_GET, 0},
		{etcdserverpb.AlarmRequest_ACTIVATE, 1},
		{etcdserverpb.AlarmRequest_ACTIVATE, 1},
		{etcdserverpb.AlarmRequest_DEACTIVATE, 0},
	} {
		_, err := maintenance.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: c.action, MemberID: 31, Alarm: etcdserverpb.AlarmType_NOSPACE})
		if err != nil {
			t.Fatal(err)
		}
		if got := scraped(t, ctx, members[0].client).values[series]; got != c.want {
			t.Errorf("after %s: %v, want %v", c.action, got, c.want)
		}
	}
}

func TestWithoutExtensiveThereAreNoTimesOfCalls(t *testing.T) {
	t.Parallel()
	members := start(t, 1, func(int) []string { return nil })
	s := scraped(t, within(t), members[0].client)
	if s.families["grpc_server_handling_seconds"] != nil {
		t.Error("there are")
	}
	if s.families["grpc_server_handled_total"] == nil {
		t.Error("there are no counts of calls")
	}
}
