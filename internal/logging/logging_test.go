package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestALineHasTheShapeOfEtcdsLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, slog.LevelInfo, false))
	log.With("member", "a").WithGroup("disk").Warn("slow \"sync\"", "took", 90*time.Millisecond, "error", errors.New("late"))
	want := regexp.MustCompile(`^\{"level":"warn","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",` +
		`"caller":"logging/logging_test\.go:\d+","msg":"slow \\"sync\\"","member":"a",` +
		`"disk":\{"took":"90ms","error":"late"\}\}` + "\n$")
	if !want.MatchString(out.String()) {
		t.Errorf("got %s", out.String())
	}
}

func TestEveryLineIsJSONWhateverIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, slog.LevelDebug, false))
	log.Debug("bytes \xff\n", "level", "high", "msg", "mine", "time", 3)
	log.Error("", slog.Group("g", "level", slog.LevelInfo))
	log.Info("nothing else")
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("got %d lines, want 3", n)
	}
}

func TestTheConsoleFormatSeparatesByTabs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, slog.LevelInfo, true))
	log.Debug("not shown")
	log.Info("two\nlines", "n", 1)
	cells := strings.Split(out.String(), "\t")
	if len(cells) != 5 || cells[1] != "info" || cells[3] != "two lines" || cells[4] != "{\"n\":1}\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestGoroutinesDoNotMixTheirLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, slog.LevelInfo, false))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			l := log.With("who", "me")
			for range 50 {
				l.Info("line", "x", 1)
			}
		})
	}
	wg.Wait()
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.HasSuffix(line, `"msg":"line","who":"me","x":1}`) {
			t.Fatalf("got %s", line)
		}
	}
}

func TestOpenWritesToEveryOutput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.log")
	for _, rotation := range []*Rotation{nil, {MaxSize: 1}} {
		var stdout, stderr bytes.Buffer
		log, closer, err := Open(Options{Outputs: []string{file, "stdout", "default"}, Level: "WARN", Rotation: rotation,
			Stdout: &stdout, Stderr: &stderr})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hidden")
		log.Warn("shown")
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		if stdout.String() != stderr.String() || strings.Count(stdout.String(), "shown") != 1 {
			t.Errorf("got %q and %q", stdout.String(), stderr.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "shown") != 2 {
		t.Errorf("file: got %q, %v; want both logs appended", text, err)
	}
}

func TestOpenRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	if _, _, err := Open(Options{Level: "loud"}); !errors.Is(err, ErrLevel) {
		t.Errorf("an unknown level: got %v", err)
	}
	missing := filepath.Join(t.TempDir(), "no", "file")
	if _, _, err := Open(Options{Level: "info", Outputs: []string{missing}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: got %v", err)
	}
}
