//go:build cgo && linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tellSlack makes the test below, in a process of its own, tell its timer slack.
const tellSlack = "ASHLAR_TEST_TELL_SLACK"

func TestTimersMayBeLateUnlessSomebodyChoseHowMuch(t *testing.T) {
	if os.Getenv(tellSlack) != "" {
		fmt.Printf("slack=%v\n", slackOf(t))
		return
	}
	for name, c := range map[string]struct{ before, after time.Duration }{
		"the default becomes longer": {50 * time.Microsecond, time.Millisecond},
		"a shorter one stays":        {time.Microsecond, time.Microsecond},
		"a longer one stays":         {20 * time.Millisecond, 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // a process has the slack of the thread that starts it; this one ends with the test
			if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(c.before.Nanoseconds()), 0, 0, 0); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestTimersMayBeLateUnlessSomebodyChoseHowMuch$")
			cmd.Env = append(os.Environ(), tellSlack+"=1")
			out, err := cmd.CombinedOutput()
			if want := fmt.Sprintf("slack=%v\n", c.after); err != nil || !strings.Contains(string(out), want) {
				t.Errorf("got %v, %s; want %s", err, out, want)
			}
		})
	}
}

func slackOf(t *testing.T) time.Duration {
	t.Helper()
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n)
}
