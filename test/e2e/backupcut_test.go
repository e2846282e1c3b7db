package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/test/process"
)

// wire is a connection to a member that can be cut.
type wire struct {
	address string

	mu     sync.Mutex
	passed int64 // bytes of the member's
	left   int64 // how many of them may still pass; negative: all
	at     onLimit
	open   map[net.Conn]struct{}
}

// onLimit is what happens when no more may pass.
type onLimit int

const (
	cutOnce  onLimit = iota // the connections end, new ones are as good as ever
	cutDown                 // the connections end, and nobody can connect
	swallows                // nothing arrives any more
)

// newWire runs until the test ends.
func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", process.FreeAddress(t))
	noError(t, err)
	w := &wire{address: l.Addr().String(), left: -1, open: map[net.Conn]struct{}{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			member, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
			if err != nil || !w.admit(client, member) {
				client.Close()
				continue
			}
			all.Go(func() { io.Copy(member, client); member.Close() })
			all.Go(func() { io.Copy(&limited{w, client}, member); client.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.end()
		all.Wait()
	})
	return w
}

func (w *wire) admit(client, member net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 && w.at == cutDown {
		member.Close()
		return false
	}
	w.open[client], w.open[member] = struct{}{}, struct{}{}
	return true
}

func (w *wire) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
}

func (w *wire) endLocked() {
	for c := range w.open {
		c.Close()
	}
	clear(w.open)
}

// limit lets so many bytes pass from now on.
func (w *wire) limit(bytes int64, at onLimit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.at = bytes, at
}

// mend lets everything pass again, and counts from 0.
func (w *wire) mend() {
	w.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.passed = -1, 0
}

func (w *wire) count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.passed
}

type limited struct {
	w  *wire
	to io.Writer
}

func (l *limited) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	n := int64(len(p))
	if l.w.left >= 0 {
		n = min(n, l.w.left)
		l.w.left -= n
	}
	l.w.passed += n
	if _, err := l.to.Write(p[:n]); err != nil {
		return 0, err
	}
	if l.w.left != 0 {
		return len(p), nil
	}
	if l.w.at == cutOnce {
		l.w.left = -1
	}
	if l.w.at != swallows {
		l.w.endLocked()
	}
	return len(p), nil
}

// piece is how much of a transfer may have to come twice: what has no checksum yet, and what was under way.
const piece = 1 << 20

func TestABackupThatWasCutGoesOn(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd has no such backup")
	}
	m := newMember(t)
	s := m.start(t)
	ctx := within(t, process.Patience)
	c := m.connect(t)
	value := make([]byte, 128<<10)
	random := rand.NewChaCha8([32]byte{})
	for i := range 60 {
		random.Read(value)
		_, err := c.Put(ctx, fmt.Sprintf("k%02d", i), string(value))
		noError(t, err)
	}
	create := func(dir, endpoint string) *process.Process {
		return process.Start(t, t.TempDir(), nil, program.path, "util", "backup", "create", dir, "--endpoints", endpoint)
	}
	undisturbed := filepath.Join(t.TempDir(), "backup")
	create(undisturbed, m.client).WaitEnd(t)
	want := pointContent(t, undisturbed)
	info, err := os.Stat(filepath.Join(undisturbed, "000001.db"))
	noError(t, err)
	size := info.Size()

	w := newWire(t, m.client)
	for i, c := range []struct {
		name string
		cut  int64
		at   onLimit
	}{
		{"cut before the first piece", piece / 3, cutDown},
		{"cut after the first piece", piece + piece/3, cutDown},
		{"cut in the middle", size / 2, cutDown},
		{"cut near the end", size - 50_000, cutDown},
		{"killed in the middle", size / 2, swallows},
		{"killed near the end", size - 50_000, swallows},
		{"cut for a moment", size / 2, cutOnce},
	} {
		ctx := within(t, process.Patience)
		dir := filepath.Join(t.TempDir(), "backup")
		w.limit(c.cut, c.at)
		p := create(dir, w.address)
		if c.at == swallows {
			waitSummed(ctx, t, p, dir, c.cut)
			p.Kill()
		}
		p.WaitEnd(t)
		if ok := p.State().ExitCode() == 0; ok != (c.at == cutOnce) {
			t.Fatalf("%s: %v, %s", c.name, p.State(), p.Log)
		}
		again := w.count() - c.cut
		if c.at != cutOnce {
			if points, err := filepath.Glob(filepath.Join(dir, "*.point")); err != nil || len(points) != 0 {
				t.Errorf("%s: there is a point already: %q, %v", c.name, points, err)
			}
			w.mend()
			// What is written meanwhile is not in what goes on.
			_, err := m.connect(t).Put(ctx, "later", fmt.Sprint(i))
			noError(t, err)
			p = create(dir, w.address)
			p.WaitEnd(t)
			if p.State().ExitCode() != 0 {
				t.Fatalf("%s: %v, %s", c.name, p.State(), p.Log)
			}
			again = w.count()
		}
		if c.cut > 2*piece {
			if most := size - c.cut + 3*piece/2; again > most {
				t.Errorf("%s: %d bytes were transferred afterwards, more than %d; %s", c.name, again, most, p.Log)
			}
		}
		if c.cut > piece {
			if !p.Log.Contains("going on with") {
				t.Errorf("%s: it does not say that it goes on: %s", c.name, p.Log)
			}
			if got := pointContent(t, dir); c.at != cutOnce && !bytes.Equal(got, want) {
				t.Errorf("%s: the content is another", c.name)
			}
		}
		w.mend()
		want = contentNow(t, m) // the next one begins with what is there now
	}
	s.stop(t)
}

// TestABackupNoticesThatItsConnectionIsDead has nothing arrive any more, and no end either, as when the member loses its power.
func TestABackupNoticesThatItsConnectionIsDead(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd has no such backup")
	}
	m := newMember(t)
	s := m.start(t)
	ctx := within(t, process.Patience)
	_, err := m.connect(t).Put(ctx, "k", strings.Repeat("x", piece))
	noError(t, err)
	w := newWire(t, m.client)
	w.limit(piece/2, swallows)
	p := process.Start(t, t.TempDir(), nil, program.path, "util", "backup", "create", t.TempDir(), "--endpoints", w.address)
	p.WaitEnd(t)
	if p.State().ExitCode() == 0 {
		t.Errorf("it succeeded: %s", p.Log)
	}
	s.stop(t)
}

// waitSummed waits until a backup under way has written the checksums of what is in so many bytes of its connection: what has passed may
// still be on its way.
func waitSummed(ctx context.Context, t *testing.T, p *process.Process, dir string, bytes int64) {
	t.Helper()
	const message = 256 << 10 // more than the last one, which did not come whole, and the rest of the protocol
	want := (bytes - message) / piece
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		sums, err := os.ReadFile(filepath.Join(dir, "incoming.sums"))
		if err == nil && int64(strings.Count(string(sums), "\n"))-1 >= want {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s", p.Log)
		case <-p.Ended():
			t.Fatalf("it ended by itself: %s", p.Log)
		}
	}
}

// TestABackupBeginsAnewWhenTheMemberDoesNotHaveItAnyMore says so, and what was there is of no harm.
func TestABackupBeginsAnewWhenTheMemberDoesNotHaveItAnyMore(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd has no such backup")
	}
	m := newMember(t)
	s := m.start(t)
	ctx := within(t, process.Patience)
	for i := range 30 {
		_, err := m.connect(t).Put(ctx, fmt.Sprint(i), strings.Repeat("x", 128<<10))
		noError(t, err)
	}
	w := newWire(t, m.client)
	w.limit(2*piece, cutDown)
	dir := filepath.Join(t.TempDir(), "backup")
	run := func() (string, error) {
		out, err := exec.CommandContext(ctx, program.path, "util", "backup", "create", dir, "--endpoints", w.address).CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err == nil {
		t.Fatal(out)
	}
	s.stop(t)
	w.mend()
	s = m.start(t)
	out, err := run()
	if err != nil || !strings.Contains(out, "does not have the content of the cut transfer any more; beginning anew") {
		t.Fatalf("%v, %s", err, out)
	}
	if got := pointContent(t, dir); !bytes.Equal(got, contentNow(t, m)) {
		t.Error("the content is another")
	}
	s.stop(t)
}

// pointContent returns the newest point of a backup as a snapshot file.
func pointContent(t *testing.T, dir string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f")
	out, err := exec.CommandContext(t.Context(), program.path, "util", "backup", "export", dir, file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	b, err := os.ReadFile(file)
	noError(t, err)
	return b
}

// contentNow returns what a member has now, as pointContent would.
func contentNow(t *testing.T, m *member) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	out, err := exec.CommandContext(t.Context(), program.path, "util", "backup", "create", dir, "--endpoints", m.client).CombinedOutput()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	return pointContent(t, dir)
}
