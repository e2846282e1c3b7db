package progress

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
		if IsTerminal(stream) {
			t.Errorf("%T is taken for a terminal", stream)
		}
		ctx, l := Begin(On(context.Background(), NewTerminal(stream)), "working", 10)
		Of(ctx).Add(1)
		l.Reach(5)
		l.Expect(20)
		l.End()
	}
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes were written to a file, %v", info.Size(), err)
	}
	if Of(context.Background()) != nil {
		t.Error("there is a line that nobody began")
	}
}

func keys(n int64) string { return Bytes(n)[:len(Bytes(n))-1] + "keys" }

func TestProgressIsALine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	screen := &Terminal{w: &out}
	l := screen.Start("", keys, 900)
	l.Add(225)
	l.drawn = l.drawn.Add(time.Hour)
	l.Add(1) // too soon to be drawn
	l.End()
	l.End()
	got := out.String()
	if !strings.HasPrefix(got, "\r\x1b[K[███████·······················]  25%  225 keys of 900 keys  ") || strings.Count(got, "%") != 1 ||
		!strings.HasSuffix(got, "\r\x1b[K") || strings.Count(got, "\r") != 2 {
		t.Errorf("got %q", got)
	}
	if got := l.text(2 * time.Second); !strings.HasSuffix(got, "226 keys of 900 keys  113 keys/s") {
		t.Errorf("got %q", got)
	}
	if got := (&Line{what: "reading", unit: Bytes, done: 4000}).text(2 * time.Second); got != "reading  4.0 kB  2.0 kB/s" {
		t.Errorf("got %q", got)
	}
	l.Reach(5000) // more than was expected
	if got := l.text(time.Second); !strings.HasPrefix(got, "["+strings.Repeat("█", barWidth)+"] 100%") {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsWrittenTakesThePlaceOfTheLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	screen := &Terminal{w: &out}
	ctx, l := Begin(On(context.Background(), screen), "reading", 0)
	if _, err := Of(ctx).Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	for range 2 {
		if _, err := screen.Write([]byte("said\n")); err != nil {
			t.Fatal(err)
		}
	}
	l.End()
	if got := out.String(); got != "\r\x1b[Ksaid\nsaid\n" {
		t.Errorf("got %q", got)
	}
}

func TestSizesOfBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 9: "9 B", 10: "10 B", 999: "999 B", 1000: "1.0 kB", 20480: "20 kB", 11460: "12 kB",
		9_960_000: "10 MB", 2_097_152: "2.1 MB", 2_147_483_648: "2.1 GB", 1 << 62: "4.6 EB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
