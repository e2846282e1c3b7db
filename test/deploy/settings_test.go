package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/config"
)

const root = "../../deploy/"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// of returns the values of a directive of a unit.
func of(unit, directive string) (values []string) {
	for _, line := range strings.Split(unit, "\n") {
		if v, ok := strings.CutPrefix(line, directive+"="); ok {
			values = append(values, v)
		}
	}
	return values
}

// wellTaken reports what the log would complain of: a variable that is not known, a setting without effect.
func wellTaken(t *testing.T, c *config.Config) {
	t.Helper()
	for _, n := range c.Notices {
		if n.Level > 0 {
			t.Errorf("the member would warn: %s %v", n.Message, n.Attrs)
		}
	}
}

func TestTheUnitStartsAMemberWithItsSettings(t *testing.T) {
	t.Parallel()
	unit, env := read(t, "systemd/ashlar.service"), read(t, "systemd/ashlar.env")
	start := strings.Fields(strings.Join(of(unit, "ExecStart"), " "))
	if len(start) < 2 || start[0] != "/usr/local/bin/ashlar" || start[1] != "server" {
		t.Fatalf("it starts %q", start)
	}
	environ := of(unit, "Environment")
	for _, line := range strings.Split(env, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") {
			environ = append(environ, line)
		}
	}
	c, err := config.Parse("ashlar", start[2:], environ)
	if err != nil {
		t.Fatal(err)
	}
	wellTaken(t, &c)
	if state := of(unit, "StateDirectory"); len(state) != 1 || c.DataDir != "/var/lib/"+state[0] {
		t.Errorf("the data is in %s, and the unit may write to %v", c.DataDir, state)
	}
	if err := c.CheckBootstrap(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(of(unit, "Type"), []string{"notify"}) || len(of(unit, "WatchdogSec")) != 1 || !slices.Equal(of(unit, "Restart"), []string{"on-failure"}) {
		t.Error("the unit does not hear how the member fares")
	}
	user := strings.Fields(read(t, "systemd/ashlar.sysusers.conf"))
	if !slices.Equal(of(unit, "User"), user[1:2]) {
		t.Errorf("it runs as %v, and %s is made", of(unit, "User"), user[1])
	}
}

// Flags and sections of other programs that the pages name.
var others = []string{"file", "tag", "build-arg", "publish", "volume", "rm", "entrypoint", "from", "priority", "unit", "read-only", "cap-drop", "security-opt", "health-cmd", "etcd-compaction-interval", "target", "all", "now", "config", "namespace", "etcd-upgrade",
	"endpoints", "cacert", "cert", "key", "cluster", "write-out", "experimental-", "experimental-initial-corrupt-check",
	"experimental-watch-progress-notify-interval"}

var (
	flags     = regexp.MustCompile(`(?:^|[\s\x60"(])--([a-z][a-z-]*)`)
	variables = regexp.MustCompile(`ETCD_[A-Z_]+`)
)

func TestEveryFlagThatIsNamedExists(t *testing.T) {
	t.Parallel()
	known, seen := slices.Clone(others), 0
	var vars []string
	for _, f := range config.Flags() {
		known, vars = append(known, f.Name), append(vars, f.Env())
	}
	for _, pattern := range []string{"*.md", "Containerfile", "*/*.service", "*/*.env", "*/*.yaml"} {
		files, err := filepath.Glob(root + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text := read(t, strings.TrimPrefix(filepath.ToSlash(file), root))
			for _, m := range flags.FindAllStringSubmatch(text, -1) {
				if seen++; !slices.Contains(known, m[1]) {
					t.Errorf("%s: --%s is not a flag", file, m[1])
				}
			}
			for _, v := range variables.FindAllString(text, -1) {
				if seen++; v != "ETCD_" && !slices.Contains(vars, v) {
					t.Errorf("%s: %s is not a variable", file, v)
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d flags and variables were found", seen)
	}
}

func TestTheImageHasTheProgramUnderEveryName(t *testing.T) {
	t.Parallel()
	text := read(t, "Containerfile")
	for _, want := range []string{"./cmd/ashlar\n", "for name in etcd etcdctl etcdutl; do ln -s ashlar /image/usr/local/bin/$name", "-extldflags -static",
		"\nFROM scratch\n", "\nENV PATH=/usr/local/bin\n", "\nARG USER=65532:65532\n", "\nUSER $USER\n", `ENTRYPOINT ["ashlar"]`} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not hold %q", want)
		}
	}
	command := regexp.MustCompile(`\nCMD \["server", "(.*)"\]\n`).FindStringSubmatch(text)
	if command == nil {
		t.Fatal("it has no command")
	}
	c, err := config.Parse("ashlar", strings.Split(command[1], `", "`), nil)
	if err != nil || !strings.Contains(text, "chown $USER /image"+c.DataDir+"\n") {
		t.Errorf("its data directory %q is not made, %v", c.DataDir, err)
	}
	version := regexp.MustCompile(`\nARG BUILDER=\S+golang:(\S+)\n`).FindStringSubmatch(text)
	mod, err := os.ReadFile("../../go.mod")
	if err != nil || version == nil || !strings.Contains(string(mod), "\ngo "+version[1]) {
		t.Errorf("it is built with Go %v, which go.mod does not ask for, %v", version, err)
	}
}
