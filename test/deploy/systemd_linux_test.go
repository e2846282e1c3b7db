package deploy

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/test/process"
)

// machine is a system that systemd has booted in namespaces of its own: see the script of that name.
type machine struct {
	t   *testing.T
	pid string // of its systemd, as it is called here
}

var systemdFlag = flag.Bool("systemd", false, "boot systemd in namespaces, as root, and try the unit there")

// boot boots a machine with these files in it, given as FILE:PATH. The test is skipped where that is not asked for or cannot be done:
// nobody expects a test to boot a system.
func boot(t *testing.T, files ...string) *machine {
	t.Helper()
	if !*systemdFlag {
		t.Skip("SKIPPED: the unit under systemd: asked for by -systemd")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: the unit under systemd: only root can boot a machine")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("SKIPPED: the unit under systemd: no systemd is installed")
	}
	script, err := filepath.Abs("machine")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		from, _, _ := strings.Cut(f, ":")
		if _, err := os.Stat(from); err != nil {
			t.Fatal(err)
		}
	}
	p := process.Start(t, ".", nil, append([]string{script}, files...)...)
	if !p.WaitForOutput("machine ") {
		t.Skipf("SKIPPED: the unit under systemd: no machine can be booted here: %s", p.Log)
	}
	t.Cleanup(func() {
		if p.State() == nil {
			p.Stop(t)
		}
	})
	m := &machine{t: t, pid: regexp.MustCompile(`machine (\d+)`).FindStringSubmatch(p.Output.String())[1]}
	ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
	defer cancel()
	for tick := time.Tick(100 * time.Millisecond); ; {
		state, _ := m.try("systemctl", "is-system-running")
		if state = strings.TrimSpace(state); state == "running" || state == "degraded" {
			return m
		}
		select {
		case <-tick:
		case <-p.Ended():
			t.Skipf("SKIPPED: the unit under systemd: the machine does not stay up here: %s", p.Log)
		case <-ctx.Done():
			t.Skipf("SKIPPED: the unit under systemd: the machine does not come up here: %s, %s", state, p.Log)
		}
	}
}

// try runs a command in the machine.
func (m *machine) try(command ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), process.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", m.pid, "--all", "--"}, command...)...)
	cmd.Env = append(process.CleanEnvironment(), "SYSTEMD_PAGER=", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try for a command that must succeed.
func (m *machine) run(command ...string) string {
	m.t.Helper()
	out, err := m.try(command...)
	if err != nil {
		log, _ := m.try("journalctl", "--no-pager", "--lines=30", "--output=cat")
		m.t.Fatalf("%s: %v\n%s\nthe journal ends with:\n%s", strings.Join(command, " "), err, out, log)
	}
	return strings.TrimSpace(out)
}

// write makes a file of the machine.
func (m *machine) write(path, text string) {
	m.t.Helper()
	m.run("sh", "-c", `mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"`, path, text)
}

// shown is a property of the service.
func (m *machine) shown(property string) string {
	m.t.Helper()
	return m.run("systemctl", "show", "--property="+property, "--value", "ashlar")
}

// until waits until a property of the service is as wanted.
func (m *machine) until(property string, wanted func(string) bool) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), process.Patience)
	defer cancel()
	for tick := time.Tick(100 * time.Millisecond); ; {
		got := m.shown(property)
		if wanted(got) {
			return got
		}
		select {
		case <-tick:
		case <-ctx.Done():
			m.t.Fatalf("%s stays %q; %s", property, got, m.run("systemctl", "status", "--no-pager", "ashlar"))
		}
	}
}

func is(want string) func(string) bool { return func(got string) bool { return got == want } }

// record is a line of the journal.
type record struct {
	Message    string `json:"MESSAGE"`
	Priority   string `json:"PRIORITY"`
	Identifier string `json:"SYSLOG_IDENTIFIER"`
	Unit       string `json:"_SYSTEMD_UNIT"`
	Package    string `json:"PACKAGE"`
}

// journal is what the journal holds of the service by itself, and what systemd said of it.
func (m *machine) journal(match ...string) (all []record) {
	m.t.Helper()
	lines := m.run(append([]string{"journalctl", "--no-pager", "--output=json", "--all"}, match...)...)
	for line := range strings.Lines(lines) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err == nil { // what is no text is a list of bytes
			all = append(all, r)
		}
	}
	return all
}

const (
	alone = "ETCD_NAME=m1\n"
	// outnumbered waits for others that do not come.
	outnumbered = alone + "ETCD_INITIAL_CLUSTER=m1=http://localhost:2380,m2=http://localhost:1,m3=http://localhost:2\n"
)

// TestTheUnitUnderSystemd boots systemd and does with the unit what deploy/README.md says, and what then happens to members.
func TestTheUnitUnderSystemd(t *testing.T) {
	t.Parallel()
	built, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := boot(t, built+":/usr/local/bin/ashlar", root+"systemd/ashlar.service:/etc/systemd/system/ashlar.service",
		root+"systemd/ashlar.sysusers.conf:/etc/sysusers.d/ashlar.conf")
	m.run("systemd-sysusers")
	if complaints := m.run("systemd-analyze", "verify", "ashlar.service"); strings.Contains(complaints, "ashlar") {
		t.Errorf("systemd complains of the unit: %s", complaints)
	}
	m.waitsForAMajority()
	m.serves()
	m.isConfined()
	m.logsToTheJournal()
	m.comesBack()
	m.run("systemctl", "stop", "ashlar")
	if state, result := m.shown("ActiveState"), m.shown("Result"); state != "inactive" || result != "success" {
		t.Errorf("stopped, it is %s with %s", state, result)
	}
}

// waitsForAMajority starts a member whose cluster is not there, which is no failure and can be stopped.
func (m *machine) waitsForAMajority() {
	m.t.Helper()
	m.write("/etc/ashlar/ashlar.env", outnumbered)
	m.run("systemctl", "start", "--no-block", "ashlar")
	m.until("StatusText", is("waiting for a majority of the cluster's members"))
	if state := m.shown("ActiveState"); state != "activating" {
		m.t.Errorf("a member that serves nobody is %s", state)
	}
	m.run("systemctl", "stop", "ashlar")
	if state, result := m.shown("ActiveState"), m.shown("Result"); state != "inactive" || result != "success" {
		m.t.Errorf("stopped while it waits, it is %s with %s", state, result)
	}
	m.run("sh", "-c", "rm -r /var/lib/ashlar/*")
}

// serves starts a member, which serves by the time that the command has ended.
func (m *machine) serves() {
	m.t.Helper()
	m.write("/etc/ashlar/ashlar.env", alone)
	m.run("systemctl", "start", "ashlar")
	m.run("ashlar", "ctl", "put", "k", "v")
	if state, text := m.shown("ActiveState"), m.shown("StatusText"); state != "active" || text != "serving clients" {
		m.t.Errorf("it is %s, and says %q", state, text)
	}
	before := m.shown("MainPID")
	m.run("systemctl", "restart", "ashlar")
	m.has("after a restart")
	if m.shown("MainPID") == before || m.shown("NRestarts") != "0" {
		m.t.Error("it was not restarted by hand alone")
	}
}

func (m *machine) has(when string) {
	m.t.Helper()
	if got := m.run("ashlar", "ctl", "get", "k", "--print-value-only"); got != "v" {
		m.t.Errorf("%s it has %q", when, got)
	}
}

// isConfined looks at the process, and asks systemd what it thinks of the unit.
func (m *machine) isConfined() {
	m.t.Helper()
	pid := m.shown("MainPID")
	status := m.run("cat", "/proc/"+pid+"/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "Umask:\t0077"} {
		if !strings.Contains(status, want) {
			m.t.Errorf("of its process there is no %q in\n%s", want, status)
		}
	}
	if user := m.run("stat", "--format=%U %a", "/var/lib/ashlar", "/proc/"+pid); !strings.HasPrefix(user, "ashlar 700\nashlar ") {
		m.t.Errorf("its directory and its process belong to %q", user)
	}
	if score := m.run("cat", "/proc/"+pid+"/oom_score_adj"); m.mayRaise() && score != "-900" {
		m.t.Errorf("out of memory, it is ended by a score of %s", score)
	}
	if said := m.journal("--priority=warning", "UNIT=ashlar.service", "_PID=1"); len(said) > 0 {
		m.t.Errorf("systemd said of it: %v", said)
	}
	exposure := m.run("systemd-analyze", "security", "--no-pager", "ashlar.service")
	found := regexp.MustCompile(`Overall exposure level for ashlar.service: ([0-9.]+)`).FindStringSubmatch(exposure)
	if found == nil {
		m.t.Fatalf("systemd says of its exposure:\n%s", exposure)
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > 2 {
		m.t.Errorf("its exposure is %s:\n%s", found[1], exposure)
	}
}

// mayRaise tells whether the machine's systemd may give a service more than it has itself: CAP_SYS_RESOURCE, which sandboxes lack.
func (m *machine) mayRaise() bool {
	m.t.Helper()
	found := regexp.MustCompile(`CapEff:\s+([0-9a-f]+)`).FindStringSubmatch(m.run("cat", "/proc/1/status"))
	caps, err := strconv.ParseUint(found[1], 16, 64)
	if err != nil {
		m.t.Fatal(err)
	}
	return caps&(1<<24) != 0
}

// logsToTheJournal: each line with its level and its origin.
func (m *machine) logsToTheJournal() {
	m.t.Helper()
	m.run("journalctl", "--sync")
	all := m.journal("--unit=ashlar")
	i := slices.IndexFunc(all, func(r record) bool { return strings.Contains(r.Message, process.ReadyLine) })
	if i < 0 {
		m.t.Fatalf("the journal has %v", all)
	}
	if r := all[i]; r.Priority != "6" || r.Identifier != "ashlar" || r.Unit != "ashlar.service" || r.Package != "server" || !strings.HasPrefix(r.Message, `{"level":"info","ts":"`) {
		m.t.Errorf("the journal has %+v", r)
	}
}

// comesBack after it was killed, and after it has hung.
func (m *machine) comesBack() {
	m.t.Helper()
	m.run("kill", "-KILL", m.shown("MainPID"))
	m.until("NRestarts", is("1"))
	m.until("ActiveState", is("active"))
	m.has("after it was killed")
	m.write("/etc/systemd/system/ashlar.service.d/soon.conf", "[Service]\nWatchdogSec=5s\n")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "restart", "ashlar")
	hung := m.shown("MainPID")
	m.run("kill", "-STOP", hung)
	m.until("MainPID", func(pid string) bool { return pid != hung && pid != "0" })
	m.until("ActiveState", is("active"))
	m.has("after it hung")
	m.run("journalctl", "--sync")
	if said := m.journal("UNIT=ashlar.service"); !slices.ContainsFunc(said, func(r record) bool { return strings.Contains(r.Message, "Watchdog timeout") }) {
		m.t.Errorf("of the watchdog systemd said nothing: %v", said)
	}
}
