package ctl

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/test/process"
)

// askMember starts a command as a process that reaches the member through the wall, with that limit of a request.
func (w *wall) askMember(t *testing.T, limit string, args ...string) *process.Process {
	t.Helper()
	environ := []string{"ETCDCTL_ENDPOINTS=" + w.address, "ETCDCTL_COMMAND_TIMEOUT=" + limit}
	return process.Start(t, t.TempDir(), environ, append([]string{program, "ctl"}, args...)...)
}

// signalUntilEnd sends a signal again and again, as people do.
func signalUntilEnd(t *testing.T, p *process.Process, s syscall.Signal) {
	t.Helper()
	late := time.NewTimer(process.Patience)
	defer late.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-p.Ended():
			return
		case <-again.C:
			_ = syscall.Kill(p.PID(), s) // it may have ended
		case <-late.C:
			t.Fatalf("it does not end: %s", p.Log)
		}
	}
}

// TestWhoHoldsALockCanBeEndedWhenTheClusterIsGone: one signal, and the time of a request; or, where that is long, two signals.
func TestWhoHoldsALockCanBeEndedWhenTheClusterIsGone(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	m.start(t, nil, "elect", "led", "leader").stdout.waitFor(t, "leader")
	for name, args := range map[string][]string{
		"a lock":            {"lock", "held"},
		"a leader":          {"elect", "sought", "leader"},
		"an observer":       {"elect", "--listen", "led"},
		"a lock of an hour": {"lock", "kept", "--ttl=3600"},
	} {
		const short, long = "3s", "10m"
		for limit, what := range map[string]string{short: " with one signal", long: " with two"} {
			t.Run(name+what, func(t *testing.T) {
				t.Parallel()
				w := buildWall(t, m, math.MaxInt64, true)
				args := slices.Clone(args)
				if name != "an observer" {
					args[1] += what // each its own
				}
				p := w.askMember(t, limit, args...)
				if !p.WaitForOutput("/") {
					t.Fatalf("it holds nothing: %s", p.Log)
				}
				w.fall()
				if limit == long {
					signalUntilEnd(t, p, syscall.SIGINT)
					return
				}
				p.Signal(t, syscall.SIGTERM)
				p.WaitEnd(t)
				if failed := p.Log.Contains("Error: ") && p.State().ExitCode() == 1; failed != (name != "an observer") {
					t.Errorf("status %d, it said %q", p.State().ExitCode(), p.Log)
				}
			})
		}
	}
}

// TestWhoWaitsForALockCanBeEndedWhenTheClusterIsGone, or who waits to lead, by one signal and the time of a request or two.
func TestWhoWaitsForALockCanBeEndedWhenTheClusterIsGone(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	for _, args := range [][]string{{"lock", "held"}, {"elect", "led", "leader"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			m.start(t, nil, args...).stdout.waitFor(t, args[1]+"/")
			seen := m.start(t, nil, "watch", "--prefix", args[1]+"/", "--rev=1").stdout
			seen.waitFor(t, "PUT")
			before := len(seen.String())
			w := buildWall(t, m, math.MaxInt64, true)
			p := w.askMember(t, "2s", args...)
			seen.waitForAfter(t, before, "PUT")
			w.fall()
			p.Signal(t, syscall.SIGTERM)
			p.WaitEnd(t)
			if got := p.State().ExitCode(); got != 1 || !p.Log.Contains("Error: ") {
				t.Errorf("status %d, it said %q", got, p.Log)
			}
		})
	}
}

// TestALockIsHeldAsLongAsItsCommandRuns, however many signals come: a command may take its time to end.
func TestALockIsHeldAsLongAsItsCommandRuns(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	end := filepath.Join(t.TempDir(), "end")
	script := `trap "" INT; echo runs; while [ ! -e "$0" ] && kill -0 $PPID; do sleep 0.05; done`
	p := buildWall(t, m, math.MaxInt64, true).askMember(t, "3m", "lock", "l", "--", "sh", "-c", script, end)
	if !p.WaitForOutput("runs") {
		t.Fatalf("it does not run: %s", p.Log)
	}
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for range 5 {
		p.Signal(t, syscall.SIGINT)
		<-pause.C
	}
	if held := m.must(t, "get", "l/", "--prefix", "--keys-only"); held == "" {
		t.Error("the lock is free")
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.WaitEnd(t)
	if got := p.State().ExitCode(); got != 0 {
		t.Errorf("status %d: %s", got, p.Log)
	}
	if left := m.must(t, "get", "l/", "--prefix"); left != "" {
		t.Errorf("left: %q", left)
	}
	if p.Log.Contains("Warning") {
		t.Errorf("it warns of nothing: %s", p.Log)
	}
}

// TestWhoseLockIsLostWhileItsCommandRunsIsTold; the command goes on, and its status counts.
func TestWhoseLockIsLostWhileItsCommandRunsIsTold(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	end := filepath.Join(t.TempDir(), "end")
	script := `echo runs; while [ ! -e "$0" ] && kill -0 $PPID; do sleep 0.05; done; echo ends; exit 7`
	c := m.start(t, nil, "lock", "l", "--ttl=3", "--", "sh", "-c", script, end)
	c.stdout.waitFor(t, "runs")
	_, lease, _ := strings.Cut(strings.TrimSpace(m.must(t, "lease", "list")), "\n")
	m.must(t, "lease", "revoke", lease)
	c.stderr.waitFor(t, "Warning: the lease "+lease+" of the lock has ended while the command runs: others may have the lock now\n")
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.wait(t)
	if c.status != 7 || !strings.HasSuffix(c.stdout.String(), "ends\n") {
		t.Errorf("status %d: %s%s", c.status, c.stdout, c.stderr)
	}
}

// TestASignalEndsWhoAsksForALeaseInVain at a member that does not answer.
func TestASignalEndsWhoAsksForALeaseInVain(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	for name, args := range map[string][]string{"lock": {"lock", "a"}, "campaign": {"elect", "a", "b"}, "observer": {"elect", "--listen", "a"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := buildWall(t, m, 100, true)
			p := w.askMember(t, "10m", args...)
			w.waitFor(t, p)
			p.Stop(t)
		})
	}
}

// TestTwoSnapshotsAreNotWrittenToOneFile: the second would empty what the first has written, and both would write on.
func TestTwoSnapshotsAreNotWrittenToOneFile(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	fill(t, m)
	name := filepath.Join(t.TempDir(), "s.db")
	w := buildWall(t, m, 1<<20, false)
	first := w.askMember(t, "10m", "snapshot", "save", name)
	w.waitFor(t, first)
	got := m.run(t, "", "snapshot", "save", name)
	if want := "Error: could not lock " + name + ".part: another snapshot is being saved there\n"; got.status != 5 || got.stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if left, err := os.Stat(name + ".part"); err != nil {
		t.Errorf("what the first writes: %v, %v", left, err)
	}
	first.Kill()
	// What it has left is in nobody's way, and none of it stays.
	if err := os.WriteFile(name+".part", []byte(strings.Repeat("x", 32<<20)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name+".part", 0o644); err != nil {
		t.Fatal(err)
	}
	m.must(t, "snapshot", "save", name)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() >= 32<<20 || info.Size()%512 != 32 {
		t.Errorf("got %v, %d bytes, %v", info.Mode(), info.Size(), err)
	}
}
