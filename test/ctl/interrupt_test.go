package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// wall forwards connections to a member until so many bytes have gone in one direction, and then nothing more: what runs
// through it hangs at a known place until it is ended.
type wall struct {
	address string
	reached chan struct{}
	fall    func() // the member cannot be reached any more
}

// buildWall limits what the client sends, or else what the member does.
func buildWall(t *testing.T, m member, bytesMax int64, ofClient bool) *wall {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wall{address: l.Addr().String(), reached: make(chan struct{})}
	left := &allowance{left: bytesMax, ended: sync.OnceFunc(func() { close(w.reached) })}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", m.endpoint)
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			limited, free := io.Writer(server), io.Writer(client)
			from, back := client, server
			if !ofClient {
				limited, free, from, back = client, server, server, client
			}
			all.Go(func() { io.Copy(&limitedWriter{limited, left}, from) })
			all.Go(func() { io.Copy(free, back) })
		}
	})
	w.fall = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	t.Cleanup(w.fall)
	return w
}

// allowance is how many bytes may still pass, over all connections.
type allowance struct {
	mu    sync.Mutex
	left  int64
	ended func()
}

type limitedWriter struct {
	w io.Writer
	*allowance
}

// Write swallows what is above the allowance.
func (l *limitedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	n := min(int64(len(p)), l.left)
	l.left -= n
	if l.left == 0 {
		l.ended()
	}
	l.mu.Unlock()
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fill writes about 4 MB of keys, some of them no text.
func fill(t *testing.T, m member) {
	t.Helper()
	var lines strings.Builder
	lines.WriteString("{\"format\":\"ashlar-export/1\",\"revision\":1}\n")
	const keys = 2000
	for i := range keys {
		if i%10 == 3 {
			fmt.Fprintf(&lines, "{\"key\":\"/f/%06d\",\"value64\":\"/w==\"}\n", i*7919%keys)
		} else {
			fmt.Fprintf(&lines, "{\"key\":\"/f/%06d\",\"value\":%q}\n", i*7919%keys, strings.Repeat(fmt.Sprint(i), 500))
		}
	}
	fmt.Fprintf(&lines, "{\"end\":true,\"keys\":%d}\n", keys)
	if got := m.own(t, lines.String(), "import", "-"); got.status != 0 || got.stderr != fmt.Sprintf("%d keys imported\n", keys) {
		t.Fatalf("%+v", got)
	}
}

// exported returns all keys of a member as an export's lines, without what differs from store to store.
func exported(t *testing.T, m member) string {
	t.Helper()
	got := m.own(t, "", "export", "/f/")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	var out strings.Builder
	for _, line := range strings.Split(got.stdout, "\n")[1:] {
		line, _, _ = strings.Cut(line, `,"create_revision"`)
		out.WriteString(line + "\n")
	}
	return out.String()
}

// through starts a command as a process that reaches the member through the wall.
func (w *wall) through(t *testing.T, args ...string) *process.Process {
	t.Helper()
	return process.Start(t, t.TempDir(), []string{"ETCDCTL_ENDPOINTS=" + w.address, "ETCDCTL_COMMAND_TIMEOUT=10m"},
		append([]string{program, "ctl"}, args...)...)
}

// waitFor waits until the process hangs at the wall.
func (w *wall) waitFor(t *testing.T, p *process.Process) {
	t.Helper()
	select {
	case <-w.reached:
	case <-p.Ended():
		t.Fatalf("it ended before: %s", p.Log)
	}
}

func TestAnExportThatWasInterruptedGoesOn(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	fill(t, m)
	want := m.own(t, "", "export", "/f/").stdout
	for signal, status := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 130, syscall.SIGKILL: -1} {
		file := filepath.Join(t.TempDir(), "export.jsonl")
		w := buildWall(t, m, 2<<20, false)
		p := w.through(t, "export", "/f/", "--rev=17", "-o", file)
		w.waitFor(t, p)
		p.Signal(t, signal)
		p.WaitEnd(t)
		if got := p.State().ExitCode(); got != status {
			t.Errorf("%v: status %d, want %d; %s", signal, got, status, p.Log)
		}
		if said := p.Log.Contains("interrupted; --resume goes on where this ended\n"); said != (signal != syscall.SIGKILL) {
			t.Errorf("%v: it said %q", signal, p.Log)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%v: half an export has the name of a whole one: %v", signal, err)
		}
		if got := m.own(t, "", "export", "/f/", "-o", file); got.status != 1 || !strings.Contains(got.stderr, "is there from an export that did not finish") {
			t.Errorf("%v: %+v", signal, got)
		}
		m.must(t, "put", "/f/later", "is not of that revision")
		if got := m.own(t, "", "export", "/f/", "-o", file, "--resume"); got.status != 0 || !strings.HasPrefix(got.stderr, "2000 keys exported as of revision 17\n") {
			t.Errorf("%v: %+v", signal, got)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%v: the export differs: %d bytes, want %d; %v", signal, len(got), len(want), err)
		}
		m.must(t, "del", "/f/later")
	}
}

// TestAnExportDoesNotGoOnAtAnotherCluster asks another cluster, which has keys of that prefix and that revision, too, for the rest.
func TestAnExportDoesNotGoOnAtAnotherCluster(t *testing.T) {
	t.Parallel()
	from, other := startMember(t), startMember(t)
	for i := range 3 {
		from.must(t, "put", fmt.Sprintf("/f/%d", i), "of the one")
		other.must(t, "put", fmt.Sprintf("/f/%d", i), "of the other")
	}
	file := filepath.Join(t.TempDir(), "export.jsonl")
	want := from.own(t, "", "export", "/f/").stdout
	lines := strings.SplitAfter(want, "\n")
	for what, part := range map[string]string{
		"nothing but its head": lines[0],
		"a key":                lines[0] + lines[1],
		"all keys":             strings.Join(lines[:4], ""),
	} {
		if err := os.WriteFile(file+".part", []byte(part), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := other.own(t, "", "export", "/f/", "-o", file, "--resume"); got.status != 1 || !strings.Contains(got.stderr, "it is of the cluster ") {
			t.Errorf("%s: got %+v", what, got)
		}
		if got := from.own(t, "", "export", "/f/", "-o", file, "--resume"); got.status != 0 {
			t.Errorf("%s, at its own: got %+v", what, got)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: got\n%s\n%v", what, got, err)
		}
	}
}

func TestAnExportGoesOnFromWhereverItWasCut(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	for i := range 4 {
		m.must(t, "put", fmt.Sprintf("/f/%d", i), "\xff"+strings.Repeat("x", i))
	}
	file := filepath.Join(t.TempDir(), "export.jsonl")
	want := m.own(t, "", "export", "/f/").stdout
	for cut := 0; cut <= len(want); cut += 3 {
		if err := os.WriteFile(file+".part", []byte(want[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.own(t, "", "export", "/f/", "-o", file, "--resume"); got.status != 0 {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Fatalf("cut at %d: got\n%s\n%v", cut, got, err)
		}
	}
	// The header of an earlier release does not tell of leases.
	leases := strings.Replace(want, "}\n", `,"leases":true}`+"\n", 1)
	earlier := strings.Replace(want, `"version":1}`, `"version":1,"lease":"0000000000000007"}`, 1)
	for what, c := range map[string]struct {
		part string
		args []string
	}{
		"it was begun without --leases":                 {want, []string{"export", "/f/", "--leases"}},
		"it was begun with --leases":                    {leases, []string{"export", "/f/"}},
		"export.jsonl.part: it was begun with --leases": {earlier, []string{"export", "/f/"}},
		"it holds the prefix":                           {want, []string{"export", "/other/"}},
		"it is of revision":                             {want, []string{"export", "/f/", "--rev=2"}},
		"is not the beginning of an export":             {"hello\n", []string{"export", "/f/"}},
		"line 2: invalid character":                     {want[:strings.Index(want, "\n")+1] + "hello\n", []string{"export", "/f/"}},
		"revision 1 is no longer stored: it was":        {strings.Replace(want, `"revision":5`, `"revision":1`, 1), []string{"export", "/f/"}},
	} {
		if strings.Contains(what, "no longer") {
			m.must(t, "compaction", "5")
		}
		if err := os.WriteFile(file+".part", []byte(c.part), 0o600); err != nil {
			t.Fatal(err)
		}
		got := m.own(t, "", append(c.args, "-o", file, "--resume")...)
		if left, err := os.ReadFile(file + ".part"); got.status != 1 || !strings.Contains(got.stderr, what) || err != nil || string(left) == "" {
			t.Errorf("%s: %+v, left %q, %v", what, got, left, err)
		}
	}
}

func TestAnImportThatWasInterruptedGoesOn(t *testing.T) {
	t.Parallel()
	from := startMember(t)
	fill(t, from)
	file := filepath.Join(t.TempDir(), "export.jsonl")
	if got := from.own(t, "", "export", "/f/", "-o", file); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	want := exported(t, from)
	for signal, status := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGKILL: -1} {
		to := startMember(t)
		w := buildWall(t, to, 2600<<10, true) // more than eight batches: some have ended
		p := w.through(t, "import", file)
		w.waitFor(t, p)
		for _, how := range []string{"--if-absent", "--resume"} {
			if got := to.own(t, "", "import", file, how); got.status != 1 || got.stderr != "Error: "+file+": another import of it is under way\n" {
				t.Errorf("a second one beside it: %+v", got)
			}
		}
		p.Signal(t, signal)
		p.WaitEnd(t)
		if got := p.State().ExitCode(); got != status {
			t.Errorf("%v: status %d, want %d; %s", signal, got, status, p.Log)
		}
		half := exported(t, to)
		if half == want || !bytes.Contains([]byte(half), []byte("/f/000001")) {
			t.Errorf("%v: the import was not interrupted in its middle", signal)
		}
		if got := to.own(t, "", "import", file); got.status != 1 || !strings.Contains(got.stderr, "is there from an import that did not finish") {
			t.Errorf("%v: %+v", signal, got)
		}
		if got := from.own(t, "", "import", file, "--resume"); got.status != 1 || !strings.Contains(got.stderr, "was written for the cluster") {
			t.Errorf("%v: %+v", signal, got)
		}
		got := to.own(t, "", "import", file, "--resume")
		if got.status != 0 || strings.HasPrefix(got.stderr, "2000 keys") {
			t.Errorf("%v: everything was written again, or not all: %+v", signal, got)
		}
		if now := exported(t, to); now != want {
			t.Errorf("%v: the store differs: %d bytes, want %d", signal, len(now), len(want))
		}
		if left, err := filepath.Glob(file + ".*"); err != nil || len(left) != 0 {
			t.Errorf("%v: left %q, %v", signal, left, err)
		}
	}
}

// Transactions of an import are under way beside each other, but never two of the same key.
func TestTheLaterLineOfAnImportCounts(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	var lines strings.Builder
	lines.WriteString("{\"format\":\"ashlar-export/1\",\"revision\":1}\n")
	const keys = 300
	for i := range keys {
		fmt.Fprintf(&lines, "{\"key\":\"k%d\",\"value\":\"%d\"}\n", i%7%(i%5+1), i)
	}
	fmt.Fprintf(&lines, "{\"end\":true,\"keys\":%d}\n", keys)
	want := ""
	for k := range 5 {
		for i := keys - 1; i >= 0; i-- {
			if i%7%(i%5+1) == k {
				want += fmt.Sprintf("k%d\n%d\n", k, i)
				break
			}
		}
	}
	for _, batch := range []string{"--batch=1", "--batch=3", "--batch=128"} {
		if got := m.own(t, lines.String(), "import", "-", batch); got.status != 0 || got.stderr != fmt.Sprintf("%d keys imported\n", keys) {
			t.Fatalf("%s: %+v", batch, got)
		}
		if got := m.must(t, "get", "", "--prefix"); got != want {
			t.Errorf("%s: got %q, want %q", batch, got, want)
		}
		m.must(t, "del", "", "--prefix")
	}
}

func TestAnImportIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	file := filepath.Join(t.TempDir(), "e")
	const whole = "{\"format\":\"ashlar-export/1\",\"revision\":1}\n{\"key\":\"a\",\"value\":\"b\"}\n{\"end\":true,\"keys\":1}\n"
	for what, c := range map[string]struct{ text, mark string }{
		"its last line is missing":                  {strings.TrimSuffix(whole, "{\"end\":true,\"keys\":1}\n"), ""},
		"e: this export is not whole":               {strings.TrimSuffix(whole, "\n"), ""},
		"was written for another file of that name": {whole, `{"size":5,"cluster":"x","offset":0}`},
		"was written for the cluster x":             {whole, fmt.Sprintf(`{"size":%d,"cluster":"x","offset":0}`, len(whole))},
		"progress: unexpected end of JSON":          {whole, "{"},
		"for another file":                          {whole, fmt.Sprintf(`{"size":%d,"cluster":"x","offset":-1}`, len(whole))},
	} {
		args := []string{"import", file}
		os.Remove(file + ".progress")
		if c.mark != "" {
			args = append(args, "--resume")
			if err := os.WriteFile(file+".progress", []byte(c.mark), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.own(t, "", args...); got.status != 1 || !strings.Contains(got.stderr, what) {
			t.Errorf("%s: %+v", what, got)
		}
		if got := m.must(t, "get", "", "--prefix"); got != "" {
			t.Errorf("%s: written: %q", what, got)
		}
	}
}

// TestAnImportGoesOnWithTheFileThatItWasOf: another export of the same name may have the same size.
func TestAnImportGoesOnWithTheFileThatItWasOf(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	file := filepath.Join(t.TempDir(), "e")
	const head, key, rest = "{\"format\":\"ashlar-export/1\",\"revision\":1}\n", "{\"key\":\"a\",\"value\":\"b\"}\n",
		"{\"key\":\"c\",\"value\":\"d\"}\n{\"end\":true,\"keys\":2}\n"
	var header struct{ Cluster string }
	if got := m.own(t, "", "export"); json.Unmarshal([]byte(strings.SplitAfter(got.stdout, "\n")[0]), &header) != nil || header.Cluster == "" {
		t.Fatalf("%+v", got)
	}
	sum := crc32.Checksum([]byte(head+key), crc32.MakeTable(crc32.Castagnoli))
	for _, c := range []struct {
		name, text string
		sum        uint32
		status     int
		stderr     string
		keys       string
	}{
		{"another file", head + strings.Replace(key, "b", "x", 1) + rest, sum, 1, "was written for another file of that name", ""},
		{"the file", head + key + rest, sum, 0, "1 keys imported\n", "c\nd\n"},
		{"a mark of an earlier release", head + key + rest, 0, 0, "1 keys imported\n", "c\nd\n"},
	} {
		mark := fmt.Sprintf(`{"size":%d,"cluster":%q,"offset":%d,"sum":%d}`, len(c.text), header.Cluster, len(head+key), c.sum)
		for name, text := range map[string]string{file: c.text, file + ".progress": mark} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.own(t, "", "import", file, "--resume"); got.status != c.status || !strings.HasSuffix(strings.TrimSuffix(got.stderr, "\n"), strings.TrimSuffix(c.stderr, "\n")) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if got := m.must(t, "get", "", "--prefix"); got != c.keys {
			t.Errorf("%s: there is %q", c.name, got)
		}
		m.must(t, "del", "", "--prefix")
	}
}

// TestTwoExportsInOneFileAreAMistake: the second one would be left out without a word.
func TestTwoExportsInOneFileAreAMistake(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	file := filepath.Join(t.TempDir(), "e")
	text := ""
	for _, key := range []string{"a", "b"} {
		text += fmt.Sprintf("{\"format\":\"ashlar-export/1\",\"revision\":1}\n{\"key\":%q,\"value\":\"v\"}\n{\"end\":true,\"keys\":1}\n\n", key)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{file, "-"} {
		got := m.own(t, text, "import", from)
		if got.status != 1 || !strings.Contains(got.stderr, "line 3 is the end of the export, and what follows it was not imported") {
			t.Errorf("%s: %+v", from, got)
		}
		if got := m.must(t, "get", "", "--prefix"); got != "a\nv\n" {
			t.Errorf("%s: there is %q", from, got)
		}
	}
}

func TestPagesThatAreTooLargeAreAskedForInParts(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	for i := range 12 {
		m.must(t, "put", fmt.Sprintf("k%02d", i), strings.Repeat("v", 300_000))
	}
	got := m.own(t, "", "du", "--max-recv-bytes=400000", "k")
	if got.status != 0 || got.stdout != "     3600036          12  k\n" {
		t.Errorf("%+v", got)
	}
	if got := m.own(t, "", "du", "--max-recv-bytes=100000", "k"); got.status != 1 || !strings.Contains(got.stderr, "larger than max") {
		t.Errorf("%+v", got)
	}
}
