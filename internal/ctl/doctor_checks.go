package ctl

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// doctorMetrics are the metrics that doctor reads.
var doctorMetrics = nameSet("etcd_disk_wal_fsync_duration_seconds_bucket", "etcd_debugging_mvcc_current_revision",
	"etcd_debugging_mvcc_compact_revision", "ashlar_state_untrusted")

// What is too much.
const (
	quotaWarning        = 0.80
	quotaSerious        = 0.95
	lagEntries          = 5000 // that a member has not applied
	historyRevisionsMax = 1_000_000
	fsyncSlow           = 0.025 // seconds, for 99 of 100
	fsyncLeast          = 100   // fewer say nothing
	clockSlack          = 2 * time.Second
	certificateWarning  = 30 * 24 * time.Hour
	certificateSerious  = 7 * 24 * time.Hour
	votersMax           = 7
)

// clusterChecks look at what was said; each adds what it finds.
var clusterChecks = []func(*examination){
	(*examination).checkReachable, (*examination).checkLeader, (*examination).checkAlarms, (*examination).checkVersions,
	(*examination).checkLag, (*examination).checkQuota, (*examination).checkVoters, (*examination).checkLearners,
	(*examination).checkSecurity, (*examination).checkHistory, (*examination).checkDisks, (*examination).checkClocks,
}

func (x *examination) checkReachable() {
	for _, m := range x.members {
		switch {
		case m.status != nil && len(m.silent) == 0:
		case m.status != nil:
			x.find(warning, m.name(), "it answers, but not at "+strings.Join(m.silent, ", ")+", which it tells clients",
				"--advertise-client-urls must be addresses that clients reach; look at the network, too")
		case m.GetName() == "" && len(m.GetClientURLs()) == 0:
			x.find(warning, m.name(), "it was added and never started, and counts as one that is down",
				"start it with --initial-cluster-state=existing, or: ashlar ctl member remove %x", m.GetID())
		default:
			x.find(serious, m.name(), fmt.Sprintf("it does not answer at %s: %v", m.endpoint, m.err),
				"look whether it runs, its log, and the network; if it is lost for good: ashlar ctl member remove %x", m.GetID())
		}
	}
}

func (x *examination) checkLeader() {
	leaders := map[uint64]bool{}
	for _, m := range x.members {
		if m.status == nil {
			continue
		}
		if m.status.GetLeader() == 0 {
			x.find(serious, m.name(), "it knows no leader: it is cut off from the majority, or there is no majority",
				"start the members that are down, and look at the network between members; where a majority is lost for good: docs/backup.md, restore")
			continue
		}
		leaders[m.status.GetLeader()] = true
	}
	if len(leaders) > 1 {
		x.find(warning, "cluster", "members name different leaders: an election is going on, or one member is behind",
			"look again: ashlar ctl doctor; if it stays so, look at the network between members")
	}
	if x.agreed != nil {
		x.find(serious, "cluster", fmt.Sprintf("it does not agree on anything: %v", x.agreed),
			"more than half of the voting members must run and reach each other: start those that are down")
	}
}

func (x *examination) checkAlarms() {
	for _, a := range x.alarms {
		about := fmt.Sprintf("member %x", a.GetMemberID())
		switch a.GetAlarm() {
		case pb.AlarmType_NOSPACE:
			x.find(serious, about, "the quota is used up (alarm NOSPACE): writes are refused",
				"delete keys or raise --quota-backend-bytes, ashlar ctl compaction REVISION, then ashlar ctl alarm disarm")
		case pb.AlarmType_CORRUPT:
			x.find(serious, about, "its data differs from the others' (alarm CORRUPT)",
				"ashlar ctl endpoint hashkv --cluster tells which differs; remove that member, empty its directory, and add it again")
		default:
			x.find(serious, about, "alarm "+a.GetAlarm().String(), "ashlar ctl alarm list")
		}
	}
}

func (x *examination) checkVersions() {
	versions := map[string][]string{}
	for _, m := range x.members {
		if m.status != nil {
			versions[m.status.GetVersion()] = append(versions[m.status.GetVersion()], m.name())
		}
		if d := m.status.GetDowngradeInfo(); d.GetEnabled() {
			x.find(notice, m.name(), "a downgrade to "+d.GetTargetVersion()+" is going on", "finish it, or: ashlar ctl downgrade cancel")
		}
	}
	if len(versions) > 1 {
		var parts []string
		for v, names := range versions {
			parts = append(parts, v+" ("+strings.Join(names, ", ")+")")
		}
		slices.Sort(parts)
		x.find(warning, "cluster", "members have different versions: "+strings.Join(parts, ", "), "finish the upgrade: all members on one version")
	}
}

func (x *examination) checkLag() {
	var newest uint64
	for _, m := range x.members {
		newest = max(newest, m.status.GetRaftAppliedIndex())
	}
	for _, m := range x.members {
		if v, _ := m.metrics.one("ashlar_state_untrusted"); v > 0 {
			x.find(warning, m.name(), "its state was found to differ from the majority's, and it rebuilds it",
				"wait until it has; then look why: its disk and memory may be bad, see docs/reliability.md")
		}
		if m.status == nil || m.GetIsLearner() { // checkLearners judges those
			continue
		}
		if behind := newest - m.status.GetRaftAppliedIndex(); behind > lagEntries {
			x.find(warning, m.name(), fmt.Sprintf("it is %d entries behind", behind),
				"look at its disk and network (ashlar ctl top); after a start it catches up by itself")
		}
	}
}

func (x *examination) checkQuota() {
	for _, m := range x.members {
		quota, used := m.status.GetDbSizeQuota(), m.status.GetDbSizeInUse()
		if quota <= 0 || float64(used) < quotaWarning*float64(quota) {
			continue
		}
		v := warning
		if float64(used) >= quotaSerious*float64(quota) {
			v = serious
		}
		x.find(v, m.name(), fmt.Sprintf("%s of the quota of %s are used; when it is full, writes are refused", progress.Bytes(used), progress.Bytes(quota)),
			"ashlar ctl du tells where they are; ashlar ctl compaction REVISION drops history; or raise --quota-backend-bytes")
	}
}

func (x *examination) checkVoters() {
	voters := 0
	for _, m := range x.members {
		if !m.GetIsLearner() {
			voters++
		}
	}
	switch {
	case voters == 1:
		x.find(notice, "cluster", "one member alone: when it is lost, so is the data since the last backup",
			"ashlar ctl member add NAME --peer-urls=URL, twice, for a cluster of three")
	case voters > votersMax:
		x.find(warning, "cluster", fmt.Sprintf("%d voting members: each write waits for more than half of them", voters),
			"five or seven are enough: ashlar ctl member remove ID")
	case voters%2 == 0:
		x.find(warning, "cluster", fmt.Sprintf("%d voting members stand no more failures than %d", voters, voters-1),
			"ashlar ctl member add NAME --peer-urls=URL, or member remove ID: an odd number")
	}
}

func (x *examination) checkLearners() {
	leader := x.leader()
	for _, m := range x.members {
		if !m.GetIsLearner() || m.status == nil || leader == nil {
			continue
		}
		if m.status.GetRaftAppliedIndex()*10 >= leader.status.GetRaftAppliedIndex()*9 {
			x.find(warning, m.name(), "it is a learner that has caught up, and was never made a voting member",
				"ashlar ctl member promote %x", m.GetID())
		} else {
			x.find(notice, m.name(), "it is a learner that is still catching up", "wait, then: ashlar ctl member promote %x", m.GetID())
		}
	}
}

func (x *examination) checkSecurity() {
	for _, m := range x.members {
		if i := slices.IndexFunc(m.GetClientURLs(), plainAndOpen); i >= 0 {
			if x.authTold && !x.auth {
				x.find(serious, m.name(), "anyone who reaches "+m.GetClientURLs()[i]+" reads and writes everything: neither TLS nor users",
					"--cert-file, --key-file and --client-cert-auth, or ashlar ctl auth enable; see docs/security.md")
			} else {
				x.find(warning, m.name(), "clients speak to "+m.GetClientURLs()[i]+" without TLS: passwords and values can be read on the way",
					"--cert-file and --key-file; see docs/security.md")
			}
		}
		if i := slices.IndexFunc(m.GetPeerURLs(), plainAndOpen); i >= 0 {
			x.find(warning, m.name(), "members speak to "+m.GetPeerURLs()[i]+" without TLS: whoever reaches it can act as a member",
				"--peer-cert-file, --peer-key-file and --peer-client-cert-auth, then ashlar ctl member update")
		}
	}
}

// checkHistory looks for a cluster that nobody compacts.
func (x *examination) checkHistory() {
	for _, m := range x.members {
		now, told := m.metrics.one("etcd_debugging_mvcc_current_revision")
		compacted, known := m.metrics.one("etcd_debugging_mvcc_compact_revision")
		if stored := now - max(0, compacted); told && known && stored > historyRevisionsMax {
			x.find(warning, "cluster", fmt.Sprintf("%.0f revisions are stored", stored),
				"--auto-compaction-mode=periodic --auto-compaction-retention=1h, or: ashlar ctl compaction %.0f", now-1000)
			return
		}
	}
}

func (x *examination) checkDisks() {
	for _, m := range x.members {
		if m.metrics == nil {
			if m.status != nil {
				x.find(notice, m.name(), "its metrics cannot be read at its client address; its disk and clock were not looked at",
					"serve them there too, or look at --listen-metrics-urls yourself")
			}
			continue
		}
		if bound, ok := m.metrics.quantile("etcd_disk_wal_fsync_duration_seconds", 0.99, fsyncLeast); ok && bound > fsyncSlow {
			slow := "more than all buckets tell of"
			if !math.IsInf(bound, 1) {
				slow = "up to " + spellSeconds(bound)
			}
			x.find(warning, m.name(), "its disk is slow: of 100 syncs of the log since its start, one took "+slow+" or longer",
				"a disk of its own for --wal-dir, with a sync below 10ms; ashlar ctl check perf measures")
		}
	}
}

// checkClocks compares the clocks of members with ours at the time that they were asked.
func (x *examination) checkClocks() {
	for _, m := range x.members {
		if m.metrics == nil || m.metrics.clock.IsZero() {
			continue
		}
		// The member's clock, in whole seconds, was read between asking and the answer.
		early, late := m.asked.Add(-time.Second), m.metrics.at
		off := time.Duration(0)
		switch {
		case m.metrics.clock.Before(early):
			off = m.metrics.clock.Sub(early)
		case m.metrics.clock.After(late):
			off = m.metrics.clock.Sub(late)
		}
		if off.Abs() > clockSlack {
			x.find(warning, m.name(), fmt.Sprintf("its clock differs from this machine's by at least %v", off.Abs().Round(time.Second)),
				"synchronise clocks (chronyc tracking); certificates, tokens and logs depend on them")
		}
	}
}
