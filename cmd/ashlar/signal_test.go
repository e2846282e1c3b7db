package main

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/logging"
)

// stuckVariable makes the test program a server whose stop never ends.
const stuckVariable = "ASHLAR_TEST_STUCK"

func TestMain(m *testing.M) {
	if os.Getenv(stuckVariable) == "" {
		os.Exit(m.Run())
	}
	log := slog.New(logging.NewHandler(os.Stdout, slog.LevelInfo, false))
	handleSignals(log, func() {})
	log.Info("waiting")
	select {}
}

func TestASecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), stuckVariable+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for _, want := range []string{`"msg":"waiting"`, `"msg":"stopping on a signal`} {
			if !lines.Scan() || !strings.Contains(lines.Text(), want) {
				t.Fatalf("got %s, want a line with %s", lines.Text(), want)
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		for lines.Scan() { // until it ends
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(s) {
			t.Errorf("%v: got %v", s, err)
		}
	}
}
