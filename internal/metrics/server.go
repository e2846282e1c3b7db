package metrics

import (
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/rpc"
)

const (
	g = prometheus.GaugeValue
	c = prometheus.CounterValue
)

// serverRows are what etcd_server_ and etcd_cluster_ names.
var serverRows = []row{
	labelled(g, "etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version",
		[]string{"cluster_version"}, func(v *view, put *putter) {
			if version := v.Member.Members().Version(); version != "" {
				major, rest, _ := strings.Cut(version, ".")
				minor, _, _ := strings.Cut(rest, ".")
				put.value(1, major+"."+minor)
			}
		}),
	labelled(g, "etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.",
		[]string{"server_version"}, func(v *view, put *putter) { put.value(1, v.Version) }),
	labelled(g, "etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
		[]string{"server_go_version"}, func(_ *view, put *putter) { put.value(1, runtime.Version()) }),
	labelled(g, "etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
		[]string{"server_id"}, func(v *view, put *putter) { put.value(1, hex(v.Member.ID())) }),
	labelled(g, "etcd_server_feature_enabled", "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
		[]string{"name", "stage"}, func(v *view, put *putter) {
			for _, x := range v.Gates {
				put.value(flag(x.On), x.Name, x.Stage)
			}
		}),
	gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.",
		func(v *view) float64 { return flag(v.status.Leader != 0) }),
	gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.",
		func(v *view) float64 { return flag(v.status.Leader == v.Member.ID()) }),
	gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.",
		func(v *view) float64 { return flag(v.status.Learner) }),
	counted("etcd_server_leader_changes_seen_total", "The number of leader changes seen.",
		func(v *view) *measure.Counter { return &v.node.LeaderChanges }),
	counted("etcd_server_learner_promote_successes", "The total number of successful learner promotions while this member is leader.",
		func(v *view) *measure.Counter { return &v.counts.Promoted }),
	labelled(c, "etcd_server_learner_promote_failures",
		"The total number of failed learner promotions (likely learner not ready) while this member is leader.",
		[]string{"Reason"}, func(v *view, put *putter) {
			if n := v.counts.PromotionsRefused.Value(); n > 0 {
				put.value(float64(n), "LEARNER_NOT_READY")
			}
		}),
	gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.",
		func(v *view) float64 { return float64(v.status.Committed) }),
	gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.",
		func(v *view) float64 { return float64(v.status.Applied) }),
	gauge("etcd_server_proposals_pending", "The current number of pending proposals to commit.",
		func(v *view) float64 { return float64(v.Member.Waiting()) }),
	counted("etcd_server_proposals_failed_total", "The total number of failed proposals seen.",
		func(v *view) *measure.Counter { return &v.counts.ProposalsFailed }),
	counted("etcd_server_heartbeat_send_failures_total",
		"The total number of leader heartbeat send failures (likely overloaded from slow disk).",
		func(v *view) *measure.Counter { return &v.node.HeartbeatsLate }),
	counted("etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).",
		func(v *view) *measure.Counter { return &v.counts.SlowApplies }),
	counted("etcd_server_slow_read_indexes_total",
		"The total number of pending read indexes not in sync with leader's or timed out read index requests.",
		func(v *view) *measure.Counter { return &v.node.ReadsRepeated }),
	counted("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.",
		func(v *view) *measure.Counter { return &v.node.ReadsFailed }),
	counted("etcd_server_health_success", "The total number of successful health checks",
		func(v *view) *measure.Counter { return v.HealthPassed }),
	counted("etcd_server_health_failures", "The total number of failed health checks",
		func(v *view) *measure.Counter { return v.HealthFailed }),
	labelled(g, "etcd_server_healthcheck", "The result of each kind of healthcheck.", []string{"type", "name"},
		func(v *view, put *putter) {
			v.EachCheck(func(kind, name string, _, _ uint64, healthy bool) { put.value(flag(healthy), kind, name) })
		}),
	labelled(c, "etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", []string{"type", "name", "status"},
		func(v *view, put *putter) {
			v.EachCheck(func(kind, name string, passed, failed uint64, _ bool) {
				if passed > 0 {
					put.value(float64(passed), kind, name, "success")
				}
				if failed > 0 {
					put.value(float64(failed), kind, name, "error")
				}
			})
		}),
	gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.",
		func(v *view) float64 { return float64(v.Quota) }),
	gauge("etcd_server_snapshot_apply_in_progress_total", "1 if the server is applying the incoming snapshot. 0 if none.",
		func(v *view) float64 { return flag(v.counts.Installing.Load()) }),
	labelled(g, "etcd_debugging_server_alarms", "Alarms for every member in cluster. 1 for each that is raised.",
		[]string{"server_id", "alarm_type"}, func(v *view, put *putter) {
			alarms := v.Member.Alarms().List() // clients may raise any number, of members that are none
			for _, a := range alarms[:min(len(alarms), alarmsMax)] {
				put.value(1, a.Member.String(), a.Type.String())
			}
		}),
	labelled(0, "etcd_server_apply_duration_seconds", "The latency distributions of v2 apply called by backend. "+
		"Entries that were applied together have equal parts of the time.",
		[]string{"version", "op", "success"}, func(v *view, put *putter) {
			for _, cmd := range commands {
				put.times(v.counts.Applied[cmd].Succeeded, "v3", camel(cmd), "true")
				put.times(v.counts.Applied[cmd].Failed, "v3", camel(cmd), "false")
			}
		}),
	labelled(0, "etcd_server_request_duration_seconds", "Response latency distribution in seconds for each type.",
		[]string{"type", "success"}, func(v *view, put *putter) {
			outcomes := func(o *measure.Outcomes, name string) {
				put.times(o.Succeeded, name, "true")
				put.times(o.Failed, name, "false")
			}
			for _, cmd := range commands {
				if cmd != apply.CommandRange { // ranges do not go through the log
					outcomes(v.counts.Requests[cmd], camel(cmd))
				}
			}
			outcomes(v.Calls.RangeRequests, "Range")
			outcomes(v.Calls.ReadOnlyTxns, "ReadonlyTxn")
		}),
	labelled(0, "etcd_server_range_duration_seconds", "The latency distributions of txn.Range",
		[]string{"success"}, func(v *view, put *putter) {
			put.times(v.Calls.Ranges.Succeeded, "true")
			put.times(v.Calls.Ranges.Failed, "false")
		}),
	labelled(c, "etcd_server_client_requests_total", "The total number of client requests per client version.",
		[]string{"type", "client_api_version"}, func(v *view, put *putter) {
			v.Calls.EachClient(func(k rpc.Client, n uint64) { put.value(float64(n), k.Type, k.Version) })
		}),
}

// alarmsMax is how many alarms are told.
const alarmsMax = 64

// commands are all commands, in order.
var commands = slices.Sorted(slices.Values(apply.Commands()))

// camel returns the name of a command as etcd's metrics have it: that of the field of its message in Go.
func camel(c apply.Command) string { return camelNames[c] }

var camelNames = maps.Collect(func(yield func(apply.Command, string) bool) {
	for _, c := range apply.Commands() {
		var name strings.Builder
		for word := range strings.SplitSeq(c.String(), "_") {
			name.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
		if !yield(c, name.String()) {
			return
		}
	}
})

func hex(id uint64) string { return cluster.ID(id).String() }

// disk are the bounds of times of the disk: 1 ms to 8.192 s.
func disk() []int64 { return measure.Durations(time.Millisecond, 14) }
