package ctl

import (
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

func TestDoctorOfAMemberThatIsWell(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	const alone = "notice   cluster: one member alone: when it is lost, so is the data since the last backup\n" +
		"         -> ashlar ctl member add NAME --peer-urls=URL, twice, for a cluster of three\n1 member, 1 answers; 1 finding\n"
	if got := m.own(t, "", "doctor"); got.status != 0 || got.stdout != alone || got.stderr != "" {
		// A slow disk is found where there is one.
		if got.status != 10 || !strings.Contains(got.stdout, "its disk is slow") {
			t.Errorf("%+v", got)
		}
	}
	for status, args := range map[int][]string{128: {"doctor", "x"}, 4: {"doctor", "-w", "table"}} {
		if got := m.own(t, "", args...); got.status != status {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestDoctorOfAMemberWithoutSpace(t *testing.T) {
	t.Parallel()
	m := startMember(t, "--quota-backend-bytes=300000")
	for i := 0; ; i++ {
		got := m.run(t, strings.Repeat("x", 20_000), "put", "k"+strings.Repeat("k", i))
		if strings.Contains(got.stderr, "database space exceeded") {
			break
		}
		if got.status != 0 || i > 100 {
			t.Fatalf("put %d: %+v", i, got)
		}
	}
	got := m.own(t, "", "doctor")
	if got.status != 20 || !strings.Contains(got.stdout, "the quota is used up (alarm NOSPACE): writes are refused\n         -> delete keys or raise --quota-backend-bytes") {
		t.Errorf("%+v", got)
	}
	if first, _, _ := strings.Cut(got.stdout, " "); first != "serious" {
		t.Errorf("the worst is not the first: %s", got.stdout)
	}
}

func TestDoctorOfAClusterWithoutAMajority(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	m.must(t, "member", "add", "never", "--peer-urls=http://127.0.0.1:1")
	got := m.own(t, "", "doctor", "--command-timeout=10s")
	for _, want := range []string{"serious  cluster: it does not agree on anything: ", "more than half of the voting members must run",
		"it was added and never started", "ashlar ctl member remove ", "2 voting members stand no more failures than 1", "2 members, 1 answer"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is not found", want)
		}
	}
	if got.status != 20 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestDoctorWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	m := member{endpoint: process.FreeAddress(t)}
	got := m.own(t, "", "doctor", "--command-timeout=200ms")
	if got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "Error: no member answers: ") {
		t.Errorf("%+v", got)
	}
	got = m.own(t, "", "top", "--command-timeout=200ms", "--interval=100ms")
	if got.status != 1 || !strings.HasPrefix(got.stdout, "1 member, 0 answer\n") || got.stderr != "Error: no member tells its metrics\n" {
		t.Errorf("%+v", got)
	}
}

func TestTopIntoAPipeIsOneSnapshot(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	var lines strings.Builder
	lines.WriteString("{\"format\":\"ashlar-export/1\",\"revision\":1}\n")
	for range 1000 { // prefixes are estimated from few of the requests
		lines.WriteString("{\"key\":\"/hot/keys/k\",\"value\":\"v\"}\n")
	}
	if got := m.own(t, lines.String()+"{\"end\":true,\"keys\":1000}\n", "import", "-", "--batch=1"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	w := m.start(t, nil, "watch", "/hot", "--prefix", "--rev=1")
	w.stdout.waitFor(t, "PUT")
	got := m.own(t, "", "top", "--interval=100ms")
	if got.status != 0 || got.stderr != "" || strings.Contains(got.stdout, "\x1b") {
		t.Fatalf("%+v", got)
	}
	rows := map[string][]string{}
	for _, line := range strings.Split(got.stdout, "\n") {
		if cells := strings.Fields(line); len(cells) > 0 {
			rows[cells[0]] = cells
		}
	}
	if first, _, _ := strings.Cut(got.stdout, "\n"); first != "1 member, 1 answers" {
		t.Errorf("got %q", first)
	}
	// m ENDPOINT leader ... REVISION KEYS WATCHERS SLOW; sizes have two words
	row := rows["m"]
	if n := len(row); n < 8 || row[1] != "http://"+m.endpoint || row[2] != "leader" || strings.Join(row[n-4:], " ") != "1001 1 1 0" {
		t.Errorf("got %q", row)
	}
	if strings.Count(got.stdout, "MEMBER") != 1 || rows["/hot/keys/"] == nil {
		t.Errorf("got\n%s", got.stdout)
	}
	for status, args := range map[int][]string{128: {"top", "--interval=1ms"}, 4: {"top", "-w", "json"}} {
		if got := m.own(t, "", args...); got.status != status {
			t.Errorf("%q: %+v", args, got)
		}
	}
}
