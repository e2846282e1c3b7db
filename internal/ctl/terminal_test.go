package ctl

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// escapes steer a terminal and take no room.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

func TestNothingButATerminalIsOne(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, stream := range []any{nil, &bytes.Buffer{}, file, r, w} {
		if isTerminal(stream) {
			t.Errorf("%T is taken for a terminal", stream)
		}
	}
	s := newSession(Process{Stdin: file, Stdout: file, Stderr: file})
	if s.paint() || s.confirm("?") != nil {
		t.Error("a file is coloured or asked")
	}
	bar := s.startProgress(keyCount, 10)
	bar.add(1)
	bar.end()
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes were written to a file, %v", info.Size(), err)
	}
}

func TestProgressIsALine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{w: &out, unit: keyCount, total: 1000, start: time.Now()}
	p.add(250)
	p.add(1) // too soon to be drawn
	p.end()
	got := out.String()
	if !strings.HasPrefix(got, "\r\x1b[K[███████·······················]  25%  250 keys of 1000 keys  ") || strings.Count(got, "%") != 1 ||
		!strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("got %q", got)
	}
	if got := p.line(10 * time.Second); !strings.HasSuffix(got, "251 keys of 1000 keys  25 keys/s") {
		t.Errorf("got %q", got)
	}
	if got := (&progress{unit: byteSize, done: 4000}).line(2 * time.Second); got != "4.0 kB  2.0 kB/s" {
		t.Errorf("got %q", got)
	}
	p.done = 5000 // more than was expected
	if got := p.line(time.Second); !strings.HasPrefix(got, "["+strings.Repeat("█", barWidth)+"] 100%") {
		t.Errorf("got %q", got)
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
		if lines, ok := decoding("").lines([]byte(value)); ok || len(lines) != 1 || escapes.MatchString(lines[0]) {
			t.Errorf("got %q, %v", lines, ok)
		}
	}
}
