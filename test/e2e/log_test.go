package e2e

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestTheLogGoesToEveryOutput: one line after the other, the same in each, in either format.
func TestTheLogGoesToEveryOutput(t *testing.T) {
	t.Parallel()
	for format, sound := range map[string]func(line string) bool{
		"json": func(line string) bool { return json.Valid([]byte(line)) && strings.HasPrefix(line, `{"level":"`) },
		"console": func(line string) bool {
			cells := strings.Split(line, "\t")
			_, err := time.Parse("2006-01-02T15:04:05.000000Z", cells[0])
			return err == nil && len(cells) >= 4 && strings.Contains(cells[2], ".go:")
		},
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			if !program.ours {
				t.Skip("the console of etcd has lines of another form")
			}
			m := newMember(t)
			file := filepath.Join(m.workingDir, "log")
			m.extra = []string{"--logger", "zap", "--log-format", format, "--log-outputs", "stderr,stdout," + file}
			m.start(t).stop(t)
			text, err := os.ReadFile(file)
			noError(t, err)
			if string(text) != m.last.Log.String() || string(text) != m.last.Output.String() {
				t.Errorf("the outputs differ:\n%s\non stderr\n%s\non stdout\n%s", text, m.last.Log.String(), m.last.Output.String())
			}
			for line := range strings.Lines(string(text)) {
				if !sound(strings.TrimSuffix(line, "\n")) {
					t.Errorf("a line of another form: %q", line)
				}
			}
			if !strings.Contains(string(text), process.ReadyLine) {
				t.Errorf("the log does not say that the server is ready:\n%s", text)
			}
		})
	}
}

// TestTheLogIsRotated asks until the log has been rotated twice, of which one file is to be kept.
func TestTheLogIsRotated(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	file := filepath.Join(m.workingDir, "log")
	m.extra = []string{"--log-outputs", "stderr," + file, "--enable-log-rotation",
		"--log-rotation-config-json", `{"maxsize": 1, "maxbackups": 1}`, "--warning-unary-request-duration", "1ns"}
	if !program.ours {
		t.Skip("etcd's line of a slow request holds the request, and it has others")
	}
	s := m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	seen := map[string]bool{}
	for kept := 0; len(seen) < 2 || kept != 1; {
		manyReads(ctx, t, c)
		full, err := filepath.Glob(filepath.Join(m.workingDir, "log-*"))
		noError(t, err)
		for _, name := range full {
			seen[name] = true
		}
		kept = len(full)
	}
	s.stop(t)
	full, err := filepath.Glob(filepath.Join(m.workingDir, "log-*"))
	noError(t, err)
	for _, name := range append(full, file) {
		text, err := os.ReadFile(name)
		noError(t, err)
		if len(text) > 1<<20 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		for line := range strings.Lines(string(text)) {
			if !json.Valid([]byte(line)) {
				t.Fatalf("%s holds a line that is not whole: %q", name, line)
			}
		}
	}
}

// manyReads asks for a key some hundred times.
func manyReads(ctx context.Context, t *testing.T, c *clientv3.Client) {
	t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if _, err := c.Get(ctx, "key", clientv3.WithSerializable()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// TestTheLevelOfTheLogChangesWhileTheServerRuns: the line that tells of the stop passes or not.
func TestTheLevelOfTheLogChangesWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd's level cannot be changed")
	}
	const stopping, all, before = "stopping on a signal", "logging everything", "logging as at the start"
	for _, c := range []struct {
		says    string
		signals []syscall.Signal
		shown   bool
	}{
		{"warnings alone, as it was told", nil, false},
		{"everything", []syscall.Signal{syscall.SIGUSR1}, true},
		{"warnings alone again", []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}, false},
	} {
		t.Run(c.says, func(t *testing.T) {
			t.Parallel()
			m := newMember(t, "--log-level", "warn")
			s := m.launch(t)
			_, err := m.connect(t).Put(within(t, process.Patience), "key", "value") // it does not say that it is ready
			noError(t, err)
			for _, signal := range c.signals {
				s.Signal(t, signal)
				want := map[syscall.Signal]string{syscall.SIGUSR1: all, syscall.SIGUSR2: before}[signal]
				if !s.WaitFor(want) {
					t.Fatalf("%v: no %q in\n%s", signal, want, s.Log.String())
				}
			}
			s.stop(t)
			if got := s.Log.Contains(stopping); got != c.shown {
				t.Errorf("%q is told: %v\n%s", stopping, got, s.Log.String())
			}
			if s.Log.Contains(process.ReadyLine) {
				t.Error("it was told at the start, too")
			}
		})
	}
}

// TestASlowRequestSaysWhoAskedAndWhereTheTimeWent by gRPC: never what the key and the value were.
func TestASlowRequestSaysWhoAskedAndWhereTheTimeWent(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd's line has no phases")
	}
	m := newMember(t, "--warning-unary-request-duration", "1ns")
	s := m.start(t)
	_, err := m.connect(t).Put(within(t, process.Patience), "hidden-key", "hidden-value")
	noError(t, err)
	if !s.WaitFor("/etcdserverpb.KV/Put") {
		t.Fatal("the request is not told")
	}
	s.stop(t)
	var line struct {
		Level, Msg, Method, Took, Expected, Client string
		Phases                                     map[string]string
	}
	text := s.Log.Last("/etcdserverpb.KV/Put")
	noError(t, json.Unmarshal([]byte(text), &line))
	host, _, err := net.SplitHostPort(line.Client)
	if err != nil || host != "127.0.0.1" || line.Level != "warn" || line.Msg != "slow request" || line.Expected != "1ns" {
		t.Errorf("got %s (%v)", text, err)
	}
	took, err := time.ParseDuration(line.Took)
	noError(t, err)
	var sum time.Duration
	for name, phase := range line.Phases {
		d, err := time.ParseDuration(phase)
		noError(t, err)
		if name != "receive" { // it comes before
			sum += d
		}
	}
	if sum != took || line.Phases["raft"] == "" || line.Phases["apply"] == "" {
		t.Errorf("the phases are %v of %v: %s", sum, took, text)
	}
	if s.Log.Contains("hidden") {
		t.Error("the log holds the key or the value")
	}
}
