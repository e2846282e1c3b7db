package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/audit"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
)

// logProofs are of the member's log and of the audit log.
var logProofs = map[string]proof{
	"logger": func(t *testing.T, _ *flagLab, name string) {
		_, err := config.Parse("ashlar", []string{"--" + name + "=other"}, nil)
		if err == nil || err.Error() != `unknown logger option "other"` {
			t.Errorf("got %v", err)
		}
	},
	"log-outputs": func(t *testing.T, l *flagLab, _ string) {
		for _, file := range []string{"a.log", "b.log"} {
			logged(t, l.path(file), "ready to serve client requests", l.path("client"))
		}
	},
	"log-format": func(t *testing.T, l *flagLab, _ string) { logged(t, l.path("a.log"), "Z\tinfo\t", "\tready to serve") },
	"log-level": func(t *testing.T, l *flagLab, name string) {
		text := written(t, func(log *slog.Logger) { log.Warn("hidden"); log.Error("shown") }, "--"+name+"=error")
		if !strings.Contains(text[""], "shown") || strings.Contains(text[""], "hidden") {
			t.Errorf("got %s", text)
		}
	},
	"enable-log-rotation": func(t *testing.T, _ *flagLab, name string) {
		large := func(log *slog.Logger) { lines(log, 3<<20) }
		if n := len(written(t, large, "--"+name, `--log-rotation-config-json={"maxsize": 1}`)); n < 2 {
			t.Errorf("3 MB are in %d files", n)
		}
		if n := len(written(t, large, `--log-rotation-config-json={"maxsize": 1}`)); n != 1 {
			t.Errorf("without it they are in %d files", n)
		}
	},
	"log-rotation-config-json": func(t *testing.T, _ *flagLab, name string) {
		large := func(log *slog.Logger) { lines(log, 3<<20) }
		if n := len(written(t, large, "--enable-log-rotation", "--"+name+`={"maxsize": 2}`)); n != 2 {
			t.Errorf("3 MB are in %d files", n)
		}
		seesBackups(t, name)
		seesLocalTime(t)
	},
	"warning-unary-request-duration": func(t *testing.T, l *flagLab, _ string) {
		logged(t, l.path("a.log"), "slow request", `"method":"/etcdserverpb.KV/Put"`, `"expected":"1ns"`, `"client":"`, `"raft":"`)
	},
	"warning-apply-duration": func(t *testing.T, l *flagLab, _ string) {
		logged(t, l.path("a.log"), "apply request took too long", `"expected-duration":"1ns"`)
	},
	"audit-log-max-size": func(t *testing.T, _ *flagLab, name string) {
		if one, two := audited(t, "--"+name+"=1"), audited(t, "--"+name+"=2"); one != 5 || two != 3 {
			t.Errorf("5 MB are in %d files and in %d", one, two)
		}
	},
	"audit-log-max-backups": func(t *testing.T, _ *flagLab, name string) {
		if n := audited(t, "--audit-log-max-size=1", "--"+name+"=2"); n != 3 {
			t.Errorf("there are %d files", n)
		}
	},
}

// seesBackups begins a log where there are three full files, of which one is old.
func seesBackups(t *testing.T, name string) {
	now := time.Now().UTC()
	var full []string
	for _, at := range []time.Time{now.AddDate(-1, 0, 0), now.Add(-2 * time.Hour), now.Add(-time.Hour)} {
		full = append(full, "log-"+at.Format("2006-01-02T15-04-05.000"))
	}
	for settings, want := range map[string][]string{
		`{"maxage": 1}`:      full[1:],
		`{"maxbackups": 1}`:  full[2:],
		`{"compress": true}`: {full[0] + ".gz", full[1] + ".gz", full[2] + ".gz"},
	} {
		dir := t.TempDir()
		for _, f := range full {
			write(t, filepath.Join(dir, f), "full\n")
		}
		cfg := parsed(t, "--enable-log-rotation", "--log-outputs="+filepath.Join(dir, "log"), "--"+name+"="+settings)
		log, files, err := logging.Open(LogOptions(&cfg, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		log.Info("line")
		eventually(t, settings+" is heeded", func() bool {
			found, err := filepath.Glob(filepath.Join(dir, "log-*"))
			for i := range found {
				found[i] = filepath.Base(found[i])
			}
			return err == nil && slices.Equal(found, want)
		})
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}
}

// zoneVariable makes the test below live in a zone far from Greenwich.
const zoneVariable = "ASHLAR_TEST_ZONE"

// TestAProcessInAnotherZone is one that seesLocalTime starts: the zone is one for all tests of a process.
func TestAProcessInAnotherZone(t *testing.T) {
	if os.Getenv(zoneVariable) == "" {
		t.Skip("it is started by TestEveryFlagDoesWhatItSays")
	}
	time.Local = time.FixedZone("far", 12*60*60)
	for _, local := range []bool{true, false} {
		full := written(t, func(log *slog.Logger) { lines(log, 3<<19) }, "--enable-log-rotation",
			fmt.Sprintf(`--log-rotation-config-json={"maxsize": 1, "localtime": %v}`, local))
		delete(full, "")
		for name := range full {
			at, err := time.Parse("-2006-01-02T15-04-05.000", name)
			fmt.Printf("local time %v: hours ahead %v, %v\n", local, time.Until(at).Round(time.Hour).Hours(), err)
		}
	}
}

// seesLocalTime reads the names of full files that a process in another zone has left.
func seesLocalTime(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProcessInAnotherZone$")
	cmd.Env = append(os.Environ(), zoneVariable+"=1")
	out, err := cmd.CombinedOutput()
	if want := "local time true: hours ahead 12, <nil>\nlocal time false: hours ahead 0, <nil>\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s", err, out)
	}
}

// auditProofs read what is written for certain when the member has ended.
var auditProofs = map[string]proof{
	"audit-log-file": func(t *testing.T, l *flagLab, _ string) {
		logged(t, l.path("audit"), `"method":"/etcdserverpb.KV/Put"`, `"key":"k"`)
	},
	"audit-log-reads": func(t *testing.T, l *flagLab, _ string) {
		text, err := os.ReadFile(l.path("audit"))
		if err != nil || bytes.Contains(text, []byte("KV/Range")) {
			t.Errorf("reads are written down: %v", err)
		}
	},
}

// audited counts the files of an audit log with these flags into which somewhat less than 5 MB are written.
func audited(t *testing.T, flags ...string) int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit")
	cfg := parsed(t, append(flags, "--audit-log-file="+file)...)
	text := bytes.Repeat([]byte("x"), 500)
	large := audit.Record{Method: "m", Touches: slices.Repeat([]audit.Touch{{Key: text, End: text}}, 30)} // 31 kB
	for range 5 {
		to, err := openAudit(&cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for range 31 {
			to.Add(&large)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
	found, err := filepath.Glob(file + "*")
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// lines logs about so many bytes.
func lines(log *slog.Logger, size int) {
	text := strings.Repeat("x", 64<<10)
	for i := range size / len(text) {
		log.Info("line", "n", fmt.Sprint(i), "text", text)
	}
}

// written returns the files that a log with these flags leaves, by what comes after the name that was asked for.
func written(t *testing.T, say func(*slog.Logger), args ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	cfg := parsed(t, append(args, "--log-outputs="+filepath.Join(dir, "log"))...)
	log, files, err := logging.Open(LogOptions(&cfg, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	say(log)
	found, globErr := filepath.Glob(filepath.Join(dir, "*"))
	if err := errors.Join(files.Close(), globErr); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(filepath.Base(name), "log")] = string(text)
	}
	return out
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
