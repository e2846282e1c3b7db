package process_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// shell runs a script until the test ends.
func shell(t *testing.T, env []string, script string) *process.Process {
	t.Helper()
	return process.Start(t, t.TempDir(), env, "sh", "-c", script)
}

func TestWhatAProcessSaysIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := shell(t, nil, "echo out; echo 'first word' >&2; echo second >&2; read line")
	if !p.WaitFor("second") {
		t.Fatal("it did not come")
	}
	if got := p.Log.Last("word"); got != "first word" {
		t.Errorf("the line is %q", got)
	}
	if got := p.Log.Tail(1); got != "second" {
		t.Errorf("the tail is %q", got)
	}
	p.WaitEnd(t) // nobody writes to it
	if p.WaitFor("never said") {
		t.Error("something came that was never said")
	}
	if got := p.Output.String(); got != "out\n" || p.Log.Contains("out") {
		t.Errorf("the output is %q", got)
	}
}

func TestASignalEndsAProcess(t *testing.T) {
	t.Parallel()
	p := shell(t, nil, "trap 'exit 7' TERM; echo ready >&2; while true; do sleep 0.01; done")
	if !p.WaitFor("ready") || p.State() != nil {
		t.Fatal("it does not run")
	}
	p.Stop(t)
	if code := p.State().ExitCode(); code != 7 {
		t.Errorf("it ended with %v", p.State())
	}
	p.Kill() // which is allowed after the end
	other := shell(t, nil, "exec sleep 1000")
	other.Kill()
	if s := other.State().Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", other.State())
	}
}

func TestAServersSettingsAreNotHandedOn(t *testing.T) {
	t.Setenv("ETCD_NAME", "leaked")
	t.Setenv("ASHLAR_NAME", "leaked")
	p := shell(t, []string{"ETCD_DATA_DIR=given"}, "env")
	p.WaitEnd(t)
	if said := p.Output.String(); strings.Contains(said, "leaked") || !strings.Contains(said, "ETCD_DATA_DIR=given") {
		t.Errorf("the environment is %q", said)
	}
}

func TestAddressesAreGivenOutOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 500 {
		a := process.FreeAddress(t)
		if seen[a] {
			t.Fatalf("%s twice", a)
		}
		seen[a] = true
		if _, _, err := net.SplitHostPort(a); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheRepositoryHasAModule(t *testing.T) {
	t.Parallel()
	root, err := process.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "cmd", "ashlar")); err != nil {
		t.Error(err)
	}
}

func TestUsageIsThatOfTheProcess(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it is read on Linux only")
	}
	if n, err := process.ResidentBytes(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if d, err := process.CPUTime(os.Getpid()); err != nil || d < 0 {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := process.CPUTime(-1); err == nil {
		t.Error("a process that is not there has used time")
	}
}
