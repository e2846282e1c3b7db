package ctl

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// wellMember is a voting member that nothing is wrong with. Member 1 leads.
func wellMember(id uint64, name string) *patient {
	return &patient{Member: &pb.Member{ID: id, Name: name, ClientURLs: []string{"https://10.0.0.1:2379"}, PeerURLs: []string{"https://10.0.0.1:2380"}},
		endpoint: "https://10.0.0.1:2379",
		status:   &pb.StatusResponse{Leader: 1, Version: "3.7.0", RaftAppliedIndex: 100_000, DbSizeQuota: 1000, DbSizeInUse: 100},
		metrics:  &scraped{samples: map[string][]sample{}}}
}

func wellCluster() *examination {
	return &examination{members: []*patient{wellMember(1, "one"), wellMember(2, "two"), wellMember(3, "three")}, auth: true, authTold: true}
}

func (p *patient) tells(t *testing.T, metrics string) {
	t.Helper()
	found, err := parseMetrics(strings.NewReader(metrics), doctorMetrics)
	if err != nil {
		t.Fatal(err)
	}
	p.metrics.samples = found
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ill  func(t *testing.T, x *examination)
		want []string // severity about: beginning of what
	}{
		"nothing": {func(*testing.T, *examination) {}, nil},
		"a member is down": {func(_ *testing.T, x *examination) { x.members[1].status, x.members[1].err = nil, errors.New("refused") },
			[]string{"serious two: it does not answer at https://10.0.0.1:2379: refused"}},
		"a member was never started": {func(_ *testing.T, x *examination) {
			x.members[1] = &patient{Member: &pb.Member{ID: 0xabc}, err: errors.New("x")}
		}, []string{"warning abc: it was added and never started"}},
		"one of two addresses is silent": {func(_ *testing.T, x *examination) { x.members[1].silent = []string{"https://b:1"} },
			[]string{"warning two: it answers, but not at https://b:1"}},
		"there is no quorum": {func(_ *testing.T, x *examination) {
			x.agreed = errors.New("deadline")
			x.members[0].status.Leader = 0
			for _, m := range x.members[1:] {
				m.status, m.err = nil, errors.New("refused")
			}
		}, []string{"serious two: it does not answer", "serious three: it does not answer", "serious one: it knows no leader",
			"serious cluster: it does not agree on anything: deadline"}},
		"members name different leaders": {func(_ *testing.T, x *examination) { x.members[2].status.Leader = 2 },
			[]string{"warning cluster: members name different leaders"}},
		"alarms": {func(_ *testing.T, x *examination) {
			x.alarms = []*pb.AlarmMember{{MemberID: 0xa, Alarm: pb.AlarmType_NOSPACE}, {MemberID: 0xb, Alarm: pb.AlarmType_CORRUPT}}
		}, []string{"serious member a: the quota is used up (alarm NOSPACE)", "serious member b: its data differs from the others' (alarm CORRUPT)"}},
		"the quota is nearly used": {func(_ *testing.T, x *examination) {
			x.members[0].status.DbSizeInUse, x.members[1].status.DbSizeInUse, x.members[2].status.DbSizeInUse = 799, 800, 950
		}, []string{"warning two: 800 B of the quota of 1.0 kB are used", "serious three: 950 B of the quota"}},
		"there is no quota": {func(_ *testing.T, x *examination) { x.members[0].status.DbSizeQuota = 0 }, nil},
		"versions differ": {func(_ *testing.T, x *examination) { x.members[2].status.Version = "3.6.1" },
			[]string{"warning cluster: members have different versions: 3.6.1 (three), 3.7.0 (one, two)"}},
		"a downgrade": {func(_ *testing.T, x *examination) {
			x.members[0].status.DowngradeInfo = &pb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"}
		}, []string{"notice one: a downgrade to 3.6.0 is going on"}},
		"a member is behind": {func(_ *testing.T, x *examination) {
			x.members[1].status.RaftAppliedIndex -= lagEntries
			x.members[2].status.RaftAppliedIndex -= lagEntries + 1
		}, []string{"warning three: it is 5001 entries behind"}},
		"an even number of voters": {func(_ *testing.T, x *examination) { x.members = append(x.members, wellMember(4, "four")) },
			[]string{"warning cluster: 4 voting members stand no more failures than 3"}},
		"too many voters": {func(_ *testing.T, x *examination) {
			for id := range uint64(6) {
				x.members = append(x.members, wellMember(4+id, "more"))
			}
		}, []string{"warning cluster: 9 voting members"}},
		"one alone": {func(_ *testing.T, x *examination) { x.members = x.members[:1] }, []string{"notice cluster: one member alone"}},
		"a learner that has caught up, and one that has not": {func(_ *testing.T, x *examination) {
			x.members = append(x.members, wellMember(4, "four"), wellMember(5, "five"))
			x.members[3].IsLearner, x.members[4].IsLearner = true, true
			x.members[4].status.RaftAppliedIndex = 10
		}, []string{"warning four: it is a learner that has caught up", "notice five: it is a learner that is still catching up"}},
		"no TLS": {func(_ *testing.T, x *examination) {
			x.members[0].ClientURLs, x.members[1].PeerURLs = []string{"http://10.0.0.1:2379"}, []string{"http://10.0.0.1:2380"}
			x.members[2].ClientURLs = []string{"http://127.0.0.1:2379", "http://localhost:1", "http://[::1]:1"}
		}, []string{"warning one: clients speak to http://10.0.0.1:2379 without TLS", "warning two: members speak to http://10.0.0.1:2380 without TLS"}},
		"neither TLS nor users": {func(_ *testing.T, x *examination) {
			x.members[0].ClientURLs, x.auth = []string{"http://10.0.0.1:2379"}, false
		}, []string{"serious one: anyone who reaches http://10.0.0.1:2379 reads and writes everything"}},
		"a member rebuilds itself": {func(t *testing.T, x *examination) { x.members[1].tells(t, "ashlar_state_untrusted 1\n") },
			[]string{"warning two: its state was found to differ"}},
		"nobody compacts": {func(t *testing.T, x *examination) {
			x.members[0].tells(t, "etcd_debugging_mvcc_current_revision 1.5e+06\netcd_debugging_mvcc_compact_revision -1\n")
			x.members[1].tells(t, "etcd_debugging_mvcc_current_revision 1.5e+06\netcd_debugging_mvcc_compact_revision 1e+06\n")
		}, []string{"warning cluster: 1500000 revisions are stored"}},
		"a slow disk": {func(t *testing.T, x *examination) {
			const name = "etcd_disk_wal_fsync_duration_seconds_bucket"
			x.members[0].tells(t, name+"{le=\"0.016\"} 990\n"+name+"{le=\"0.032\"} 1000\n"+name+"{le=\"+Inf\"} 1000\n")
			x.members[1].tells(t, name+"{le=\"0.016\"} 980\n"+name+"{le=\"0.032\"} 1000\n"+name+"{le=\"+Inf\"} 1000\n")
			x.members[2].tells(t, name+"{le=\"0.016\"} 0\n"+name+"{le=\"+Inf\"} 99\n") // too few to say
		}, []string{"warning two: its disk is slow: of 100 syncs of the log since its start, one took up to 32ms or longer"}},
		"a disk slower than all buckets": {func(t *testing.T, x *examination) {
			const name = "etcd_disk_wal_fsync_duration_seconds_bucket"
			x.members[1].tells(t, name+"{le=\"0.016\"} 0\n"+name+"{le=\"+Inf\"} 100\n")
		}, []string{"warning two: its disk is slow: of 100 syncs of the log since its start, one took more than all buckets tell of"}},
		"no metrics": {func(_ *testing.T, x *examination) { x.members[1].metrics = nil }, []string{"notice two: its metrics cannot be read"}},
		"clocks differ": {func(_ *testing.T, x *examination) {
			now := time.Unix(1_700_000_000, 0)
			for i, off := range []time.Duration{0, -time.Minute, 3 * time.Second} {
				m := x.members[i]
				m.asked, m.metrics.at, m.metrics.clock = now, now.Add(time.Millisecond), now.Add(off)
			}
		}, []string{"warning two: its clock differs from this machine's by at least 59s", "warning three: its clock differs from this machine's by at least 3s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := wellCluster()
			c.ill(t, x)
			for _, check := range clusterChecks {
				check(x)
			}
			for i, f := range x.findings {
				if got := f.Severity + " " + f.About + ": " + f.What; i >= len(c.want) || !strings.HasPrefix(got, c.want[i]) {
					t.Errorf("found %s", got)
				}
				if f.Fix == "" || strings.Contains(f.Fix, "%!") {
					t.Errorf("%s: what to do is %q", f.What, f.Fix)
				}
			}
			if len(x.findings) < len(c.want) {
				t.Errorf("not found: %q", c.want[len(x.findings):])
			}
		})
	}
}

func TestCertificatesNearTheirEnd(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for left, want := range map[time.Duration]string{
		-day:     "serious its certificate has expired on 2025-12-31",
		0:        "serious its certificate has expired on 2026-01-01",
		7 * day:  "serious its certificate expires on 2026-01-08",
		8 * day:  "warning its certificate expires on 2026-01-09",
		30 * day: "warning its certificate expires on 2026-01-31",
		31 * day: "",
	} {
		x := &examination{}
		x.judgeExpiry("m", now.Add(left), now)
		got := ""
		for _, f := range x.findings {
			got += f.Severity + " " + f.What
		}
		if got != want {
			t.Errorf("%v: got %q, want %q", left, got, want)
		}
	}
}

func TestMembersThatHoldDifferentKeys(t *testing.T) {
	t.Parallel()
	answer := func(compacted int64, hash uint32) *pb.HashKVResponse {
		return &pb.HashKVResponse{CompactRevision: compacted, Hash: hash}
	}
	for name, c := range map[string]struct {
		answers []*pb.HashKVResponse
		failed  error // of the last
		want    string
	}{
		"all the same":                         {[]*pb.HashKVResponse{answer(5, 1), answer(5, 1), answer(5, 1)}, nil, ""},
		"one was compacted less, so it hashes": {[]*pb.HashKVResponse{answer(5, 1), answer(5, 1), answer(4, 2)}, nil, ""},
		"one differs": {[]*pb.HashKVResponse{answer(5, 1), answer(5, 2), answer(5, 1)}, nil,
			"serious cluster: members hold different keys at revision 9: 00000001 (one, three), 00000002 (two)"},
		"one did not say": {[]*pb.HashKVResponse{answer(5, 1), answer(5, 1), nil}, errors.New("busy"), "notice three: its keys were not compared: busy"},
	} {
		x := wellCluster()
		x.judgeHashes(x.members, c.answers, []error{nil, nil, c.failed}, 9)
		got := ""
		for _, f := range x.findings {
			got += f.Severity + " " + f.About + ": " + f.What
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestFindingsArePrintedAsTextAndAsJSON(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"simple", "json"} {
		var out strings.Builder
		s := newSession(Process{Stdout: &out})
		s.settings.format = form
		x := wellCluster()
		if err := s.printFindings(x); err != nil {
			t.Fatal(err)
		}
		x.find(serious, "one", "it burns", "put out %s", "the fire")
		if err := s.printFindings(x); err != nil {
			t.Fatal(err)
		}
		want := "3 members, 3 answer; 0 findings\nserious  one: it burns\n         -> put out the fire\n3 members, 3 answer; 1 finding\n"
		if form == "json" {
			want = "[]\n[{\"severity\":\"serious\",\"about\":\"one\",\"what\":\"it burns\",\"fix\":\"put out the fire\"}]\n"
		}
		if out.String() != want {
			t.Errorf("got\n%s", out.String())
		}
	}
	if !slices.IsSorted([]severity{notice, warning, serious}) {
		t.Error("what is worse must be greater")
	}
}
