package ctl

import (
	"math"
	"strings"
	"syscall"
	"testing"
)

// TestAChecksKeysAreRemovedInPages, as one request for three million of them would be refused; and nothing beside them is.
func TestAChecksKeysAreRemovedInPages(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	const before, after = "/etcdctl-check-datascale.", "/etcdctl-check-datascale0"
	m.must(t, "put", before, "")
	m.must(t, "put", after, "")
	got := m.must(t, "check", "datascale", "--auto-compact")
	if !strings.Contains(got, "PASS: ") || !strings.HasSuffix(got, "\nCompacted with revision 10006\n") { // two puts, 10,000 of the check, and three pages
		t.Errorf("got %q", got)
	}
	if left := m.must(t, "get", "", "--prefix", "--keys-only"); left != before+"\n\n"+after+"\n\n" {
		t.Errorf("there is %q", left)
	}
}

// TestACheckThatIsInterruptedRemovesItsKeys, or the next one would refuse to begin.
func TestACheckThatIsInterruptedRemovesItsKeys(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	for _, kind := range []string{"perf", "datascale"} {
		prefix := "/etcdctl-check-" + kind + "/"
		seen := m.start(t, nil, "watch", prefix, "--prefix", "--rev=1")
		p := buildWall(t, m, math.MaxInt64, true).askMember(t, "3m", "check", kind, "--load=xl")
		seen.stdout.waitFor(t, "\x00\x00\x00") // a value of the check
		p.Signal(t, syscall.SIGINT)
		p.WaitEnd(t)
		if p.State().ExitCode() != 130 || p.Log.Contains("Error") || p.Output.Contains("PASS") || p.Output.Contains("FAIL") {
			t.Errorf("%s: status %d, it said %q and %q", kind, p.State().ExitCode(), p.Log, p.Output)
		}
		if left := m.must(t, "get", prefix, "--prefix", "--keys-only"); left != "" {
			t.Errorf("%s: %d bytes of keys are left", kind, len(left))
		}
		seen.end(t)
	}
}

// TestAPasswordIsAskedForOnce, also by commands that make several clients.
func TestAPasswordIsAskedForOnce(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	m.must(t, "user", "add", "root:secret")
	m.must(t, "auth", "enable")
	for name, args := range map[string][]string{
		"health": {"endpoint", "health", "--cluster"},
		"top":    {"top", "--once", "--interval=100ms"},
		"doctor": {"doctor", "--hash=false"},
	} {
		got := m.own(t, "secret\n", append(args, "--user=root")...)
		if got.status != 0 || strings.Count(got.stdout, "Password: ") != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
