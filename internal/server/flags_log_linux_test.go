package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		cfg := parsed(t, "--enable-log-rotation", "--log-outputs=f",
			"--"+name+`={"maxsize": 1, "maxage": 2, "maxbackups": 3, "localtime": true, "compress": true}`)
		want := logging.Rotation{MaxSize: 1, MaxAge: 2, MaxBackups: 3, LocalTime: true, Compress: true}
		if o := LogOptions(&cfg, nil, nil); o.Rotation == nil || *o.Rotation != want {
			t.Errorf("got %+v, want %+v", o.Rotation, want)
		}
	},
	"warning-unary-request-duration": func(t *testing.T, l *flagLab, _ string) {
		logged(t, l.path("a.log"), "slow request", `"method":"/etcdserverpb.KV/Put"`, `"expected":"1ns"`, `"client":"`, `"raft":"`)
	},
	"warning-apply-duration": func(t *testing.T, l *flagLab, _ string) {
		logged(t, l.path("a.log"), "apply request took too long", `"expected-duration":"1ns"`)
	},
	"audit-log-max-size":    ofAudit("9", func(o audit.Options) any { return o.MaxBytes }, int64(9<<20)),
	"audit-log-max-backups": ofAudit("9", func(o audit.Options) any { return o.Kept }, 9),
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

// ofAudit is made of what the audit log is opened with.
func ofAudit(text string, get func(audit.Options) any, want any) proof {
	return made(func(cfg *config.Config, _ *flagLab) audit.Options { return auditOptions(cfg, nil) }, text, get, want)
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
