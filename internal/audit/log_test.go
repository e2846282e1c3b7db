package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// lab is a log in a directory of its own, and what the server's log is told.
type lab struct {
	t    testing.TB
	path string
	told lockedBuffer
	*Log
}

// lockedBuffer takes lines of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newLab(t testing.TB, max int64, kept int) *lab {
	t.Helper()
	l := &lab{t: t, path: filepath.Join(t.TempDir(), "audit.log")}
	l.open(max, kept)
	return l
}

func (l *lab) open(max int64, kept int) {
	l.t.Helper()
	log, err := Open(Options{Path: l.path, MaxBytes: max, Kept: kept, Clock: clock.NewManual(time.Unix(0, 0)),
		Logger: slog.New(slog.NewTextHandler(&l.told, nil))})
	if err != nil {
		l.t.Fatal(err)
	}
	l.Log = log
	l.t.Cleanup(func() { _ = log.Close() })
}

// close closes the log and returns its lines, the oldest first, each of which must be JSON.
func (l *lab) close() (lines []map[string]any) {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Error(err)
	}
	for i := 99; i >= 0; i-- {
		b, err := os.ReadFile(l.file.numbered(i))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			l.t.Fatal(err)
		}
		for text := range strings.Lines(string(b)) {
			var line map[string]any
			if err := json.Unmarshal([]byte(text), &line); err != nil || !strings.HasSuffix(text, "\n") {
				l.t.Fatalf("%q: %v", text, err)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func record(user string) *Record { return &Record{User: user, Method: "/m", Code: "OK"} }

func TestALineSaysAllOfARecord(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1<<20, 1)
	l.Add(&Record{
		Began: time.Unix(1000, 5000).In(time.FixedZone("", 3600)), Took: 1500 * time.Microsecond, User: "u", Certificate: "cn",
		From: "127.0.0.1:5", Via: "gateway", Method: "/s/m",
		Touches: []Touch{{Op: "put", Key: []byte("k<"), Lease: -1}, {Op: "range", Key: []byte{0xff}, End: []byte{0}}},
		More:    3, Lease: 255, Revision: 7, Subject: "s", Role: "r", Member: "1f", Detail: "d", Code: "PermissionDenied",
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(l.path)
	want := `{"time":"1970-01-01T00:16:40.000005Z","user":"u","certificate":"cn","from":"127.0.0.1:5","via":"gateway","method":"/s/m",` +
		`"keys":[{"op":"put","key":"k\u003c","lease":"ffffffffffffffff"},{"op":"range","key_base64":"/w==","end":"\u0000"}],` +
		`"more_keys":3,"lease":"ff","revision":7,"subject":"s","role":"r","member":"1f","detail":"d","code":"PermissionDenied","took_us":1500}` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if info, err := os.Stat(l.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestWhatAClientChoosesDoesNotMakeALineLong(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1<<20, 1)
	long := strings.Repeat("ä", 1<<20)
	r := &Record{User: long, Subject: long, Role: long, Method: long, Detail: long, From: long, Certificate: long}
	text, other := []byte("k"+long), []byte("\xff"+long)
	for range 500 {
		r.Touches = append(r.Touches, Touch{Op: "put", Key: text, End: text}, Touch{Op: "put", Key: other})
	}
	b, err := r.encode()
	if err != nil || len(b) > 128<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	l.Add(r)
	lines := l.close()
	if len(lines) != 1 || lines[0]["more_keys"] != float64(1000-TouchesMax) || lines[0]["keys"].([]any)[0].(map[string]any)["cut"] != true {
		t.Errorf("got %v", lines)
	}
}

func TestFilesAreRotatedAndTheOldestGoes(t *testing.T) {
	t.Parallel()
	one, err := record("0000").encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []int{0, 1, 3} {
		l := newLab(t, int64(5*len(one)), kept)
		const n = 103
		for i := range n {
			l.Add(record(fmt.Sprintf("%04d", i)))
		}
		lines := l.close()
		// The newest of them, with none missing between: 5 in each full file, and 3 in the last.
		if len(lines) != 5*kept+3 {
			t.Fatalf("%d files are kept: %d lines", kept, len(lines))
		}
		for i, line := range lines {
			if want := fmt.Sprintf("%04d", n-len(lines)+i); line["user"] != want {
				t.Errorf("%d files are kept: line %d is %v, want %s", kept, i, line["user"], want)
			}
		}
		entries, err := os.ReadDir(filepath.Dir(l.path))
		if err != nil || len(entries) != kept+1 {
			t.Errorf("%v, %v", entries, err)
		}
	}
}

func TestALogGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1<<20, 1)
	l.Add(record("a"))
	l.close()
	if err := os.WriteFile(l.path, append(readFile(t, l.path), []byte(`{"torn`)...), 0o600); err != nil {
		t.Fatal(err)
	}
	l.open(1<<20, 1)
	l.Add(record("b"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(readFile(t, l.path)), "\n"), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"a"`) || lines[1] != `{"torn` || !strings.Contains(lines[2], `"b"`) {
		t.Errorf("got %q", lines)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAFullQueueDropsAndSaysSo holds the writing goroutine up, fills the queue and lets go.
func TestAFullQueueDropsAndSaysSo(t *testing.T) {
	t.Parallel()
	l := newLab(t, 64<<20, 1)
	// What is handed to it is not written before the log is closed.
	held := &Log{o: l.o, file: l.file, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	one, err := record("u").encode()
	if err != nil {
		t.Fatal(err)
	}
	fit := QueueMax / len(one)
	for range fit + 7 {
		held.Add(record("u"))
	}
	go held.write()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	held.Add(record("too late"))
	l.Log.file = held.file
	lines := bytes.Split(bytes.TrimSuffix(readFile(t, l.path), []byte{'\n'}), []byte{'\n'})
	if len(lines) != fit+1 || string(lines[fit]) != `{"time":"1970-01-01T00:00:00.000000Z","dropped":7}` {
		t.Errorf("%d lines, the last is %s; want %d and one that says 7", len(lines), lines[len(lines)-1], fit)
	}
	if !strings.Contains(l.told.text(), "lines=7") {
		t.Errorf("the server's log: %s", l.told.text())
	}
}

// TestAnErrorIsToldOnceAndLinesAreCounted takes the file away under the log.
func TestAnErrorIsToldOnceAndLinesAreCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := openFile(filepath.Join(dir, "log"), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	l := &Log{o: Options{Clock: clock.NewManual(time.Unix(0, 0)), Logger: slog.New(slog.NewTextHandler(&told, nil))}, file: f,
		wake: make(chan struct{}, 1)}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.Add(record("lost"))
		l.flush()
	}
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	l.Add(record("kept"))
	l.flush()
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	text := string(readFile(t, f.path))
	if strings.Contains(text, "lost") || !strings.Contains(text, "kept") || !strings.Contains(text, `"dropped":3`) {
		t.Errorf("got %s", text)
	}
	if n := strings.Count(told.String(), "cannot be written"); n != 1 || !strings.Contains(told.String(), "can be written again") {
		t.Errorf("the server's log: %s", told.String())
	}
}

// TestARotationThatFailedHalfWayCostsNoFile: the full file was moved, and then no new one could be opened.
func TestARotationThatFailedHalfWayCostsNoFile(t *testing.T) {
	t.Parallel()
	f, err := openFile(filepath.Join(t.TempDir(), "log"), 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"1\n", "2\n"} {
		if _, err := f.append([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.move(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.append([]byte("3\n")); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"3\n", "2\n", "1\n"} {
		if got := readFile(t, f.numbered(i)); string(got) != want {
			t.Errorf("file %d: %q, want %q", i, got, want)
		}
	}
}

func TestAFullFileTakesAsMuchAgainWhileThereIsNoNewOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := openFile(filepath.Join(dir, "log"), 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	path := f.path
	add := func(lines string, fits int) {
		t.Helper()
		if n, err := f.append([]byte(lines)); n != fits || (err == nil) != (n == len(lines)) {
			t.Fatalf("%q: %d bytes are written, %v; want %d", lines, n, err, fits)
		}
	}
	add("1\n2\n", 4)
	f.path = filepath.Join(dir, "none", "log") // as good as no descriptor: nothing can be opened
	add("3\n", 2)
	add("4\n5\n", 2)
	add("5\n", 0)
	f.path = path
	add("6\n", 2)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"6\n", "1\n2\n3\n4\n"} {
		if got := readFile(t, f.numbered(i)); string(got) != want {
			t.Errorf("file %d: %q, want %q", i, got, want)
		}
	}
}

func TestAPathThatCannotBeIsRefusedByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none", "log")} {
		if _, err := Open(Options{Path: path, MaxBytes: 1}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestManyWriteAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1<<14, 99)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for n := range 200 {
				l.Add(record(fmt.Sprint(i, "-", n)))
			}
		})
	}
	writers.Wait()
	seen := map[any]bool{}
	for _, line := range l.close() {
		seen[line["user"]] = true
	}
	if len(seen) != 1600 {
		t.Errorf("%d lines", len(seen))
	}
	var none *Log
	none.Add(record("u"))
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
