package ctl

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// escapes steer a terminal and take no room.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

func TestAFileGetsNothingForATerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := newSession(Process{Stdin: file, Stdout: file, Stderr: file})
	if s.paint() || s.confirm("?") != nil {
		t.Error("a file is coloured or asked")
	}
	bar := s.startProgress(keyCount, 10)
	bar.Add(1)
	bar.End()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes were written to a file, %v", info.Size(), err)
	}
}

func TestNothingStoredSteersATerminal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"a b/ä": "a b/ä", "": `""`, "a\x1b[31m": `"a\x1b[31m"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, "\u202e": `"\u202e"`} {
		if got := shown([]byte(text)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, value := range []string{"a\x1b[2Jb", "\xff\xfe", "a\rb"} {
		if lines := decoding("").lines([]byte(value)); len(lines) != 1 || !strings.Contains(lines[0], "no text") || escapes.MatchString(lines[0]) {
			t.Errorf("got %q", lines)
		}
	}
}
