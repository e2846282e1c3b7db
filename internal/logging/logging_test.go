package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
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

// TestTheJournalTakesLinesWithTheirLevel reads what journald would: a datagram of fields for each line.
func TestTheJournalTakesLinesWithTheirLevel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	at := &net.UnixAddr{Name: path, Net: "unixgram"}
	daemon, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	log, closer, err := Open(Options{Outputs: []string{JournalOutput}, Level: "info", Console: true, Journal: path, Identifier: "etcd"})
	if err != nil {
		t.Fatal(err)
	}
	read := func() string {
		t.Helper()
		buf := make([]byte, 64<<10)
		n, err := daemon.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	log.Warn("one")
	if got := read(); !strings.HasPrefix(got, "PRIORITY=4\nSYSLOG_IDENTIFIER=etcd\nPACKAGE=logging\nMESSAGE=") || !strings.HasSuffix(got, "\tone\n") {
		t.Errorf("got %q", got)
	}
	if err := errors.Join(daemon.Close(), os.RemoveAll(path)); err != nil { // journald is restarted
		t.Fatal(err)
	}
	log.Error("lost")
	if daemon, err = net.ListenUnixgram("unixgram", at); err != nil {
		t.Fatal(err)
	}
	log.Log(t.Context(), LevelFatal, strings.Repeat("x", 2*journalLineMax))
	if got := read(); !strings.HasPrefix(got, "PRIORITY=2\n") || len(got) > journalLineMax+100 {
		t.Errorf("got %d bytes: %.80q", len(got), got)
	}
	if err := errors.Join(daemon.Close(), closer.Close()); err != nil {
		t.Fatal(err)
	}
	_, _, err = Open(Options{Outputs: []string{JournalOutput}, Level: "info", Journal: path + "?"})
	if err == nil || !strings.Contains(err.Error(), "can't find journal") {
		t.Errorf("without a journal: %v", err)
	}
}

func TestAFieldWithALineFeedHasItsLength(t *testing.T) {
	t.Parallel()
	if got := string(appendField(nil, "A", "b\nc")); got != "A\n\x03\x00\x00\x00\x00\x00\x00\x00b\nc\n" {
		t.Errorf("got %q", got)
	}
}

func TestTheLevelChangesWhileTheLogIsInUse(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var level slog.LevelVar
	log, _, err := Open(Options{Outputs: []string{"stderr"}, Level: "warn", Switch: &level, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	part := log.With("part", "a")
	part.Info("hidden")
	level.Set(slog.LevelDebug)
	part.Debug("shown")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "shown") {
		t.Errorf("got %s", got)
	}
}

// failing is an output that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestAnOutputThatFailsKeepsNoLineFromTheOthers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, _, err := Open(Options{Outputs: []string{"stderr", "stdout"}, Level: "info", Stderr: failing{}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("shown")
	if !strings.Contains(out.String(), "shown") {
		t.Errorf("got %q", out.String())
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
