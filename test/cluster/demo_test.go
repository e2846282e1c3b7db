package cluster

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// demonstration is a directory that the cluster for newcomers runs in.
type demonstration struct {
	*testing.T
	dir       string
	process   *process.Process
	endpoints string
}

// demoEnd is the last line that a newcomer reads.
const demoEnd = "Ctrl-C ends it."

var demoEndpoints = regexp.MustCompile(`ETCDCTL_ENDPOINTS=(\S+)`)

// run starts the cluster, and says whether it came up.
func (d *demonstration) run(args ...string) bool {
	d.Helper()
	d.process = process.Start(d, d.T.TempDir(), nil, append([]string{program, "demo", "--dir", d.dir}, args...)...)
	if !d.process.WaitForOutput(demoEnd) {
		return false
	}
	d.endpoints = demoEndpoints.FindStringSubmatch(d.process.Output.String())[1]
	return true
}

// begin starts a new one, whose members have two ports each.
func (d *demonstration) begin(members int) {
	d.Helper()
	d.dir = filepath.Join(d.TempDir(), "demo")
	if !d.run("--members", strconv.Itoa(members), "--port", strconv.Itoa(process.FreePorts(d, 2*members))) {
		d.Fatalf("it does not start: %s", d.process.Log.String())
	}
}

// ctl runs a line of the client, as the newcomer was told to.
func (d *demonstration) ctl(line string) string {
	d.Helper()
	cmd := exec.CommandContext(d.Context(), program, append([]string{"ctl"}, strings.Fields(line)...)...)
	cmd.Env = append(process.CleanEnvironment(), "ETCDCTL_ENDPOINTS="+d.endpoints, "ETCDCTL_COMMAND_TIMEOUT="+process.Patience.String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.Fatalf("ashlar ctl %s: %v: %s", line, err, stderr.String())
	}
	return string(out)
}

// end presses Ctrl-C.
func (d *demonstration) end() {
	d.Helper()
	d.process.Signal(d, syscall.SIGINT)
	d.process.WaitEnd(d)
	if status := d.process.State().ExitCode(); status != 0 {
		d.Errorf("it ended with status %d: %s", status, d.process.Log.String())
	}
}

func TestTheDemonstration(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			d := &demonstration{T: t}
			d.begin(members)
			if got := strings.Count(d.endpoints, ",") + 1; got != members {
				t.Errorf("it tells %d endpoints", got)
			}
			for _, line := range []string{"put greeting hello", "get greeting", "endpoint status -w table"} {
				if !strings.Contains(d.process.Output.String(), " ctl "+line+"\n") {
					t.Errorf("it does not tell to try %q", line)
				}
				d.ctl(line)
			}
			if got := strings.Count(d.ctl("member list"), "started"); got != members {
				t.Errorf("%d members are started", got)
			}
			first := d.endpoints
			d.end()

			if !d.run() {
				t.Fatalf("it does not start again: %s", d.process.Log.String())
			}
			if d.endpoints != first {
				t.Errorf("the endpoints were %s, now they are %s", first, d.endpoints)
			}
			if got := d.ctl("get greeting --print-value-only"); got != "hello\n" {
				t.Errorf("the greeting is %q", got)
			}
			running := d.process
			if d.run() || !strings.Contains(d.process.Log.String(), "address already in use") {
				t.Errorf("it runs twice: %s", d.process.Log.String())
			}
			d.process = running
			d.end()
			if d.run("--members", "5") || !strings.Contains(d.process.Log.String(), "holds a cluster of") {
				t.Errorf("it changes its size: %s", d.process.Log.String())
			}
		})
	}
}

func TestTheDemonstrationRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args   []string
		status int
		want   string
	}{
		"an even number of members": {[]string{"--members=2"}, 1, "--members is 2, it must be 1, 3 or 5"},
		"ports that are not there":  {[]string{"--port=65534"}, 1, "there are no ports from 65534 to 65539"},
		"an unknown flag":           {[]string{"--bogus"}, 2, "flag provided but not defined: -bogus; see ashlar demo --help"},
		"a word":                    {[]string{"start"}, 2, `"start" is not a flag; see ashlar demo --help`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "demo")
			p := process.Start(t, t.TempDir(), nil, append([]string{program, "demo", "--dir", dir}, c.args...)...)
			p.WaitEnd(t)
			if got := p.Log.String(); got != "ashlar demo: "+c.want+"\n" || p.State().ExitCode() != c.status {
				t.Errorf("got status %d and %q", p.State().ExitCode(), got)
			}
			if found, _ := filepath.Glob(dir); len(found) > 0 {
				t.Error("it has left a directory")
			}
		})
	}
}
