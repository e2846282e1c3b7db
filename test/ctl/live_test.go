package ctl

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// must runs a command that has to succeed.
func (m member) must(t *testing.T, args ...string) string {
	t.Helper()
	got := m.run(t, "", args...)
	if got.status != 0 {
		t.Fatalf("%q: %+v", args, got)
	}
	return got.stdout
}

func TestAWatchPrintsEventsAndRunsACommand(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	m.must(t, "put", "foo", "bar")
	m.must(t, "put", "foo", "two words")
	m.must(t, "del", "foo")
	plain := m.start(t, nil, "watch", "f", "--prefix", "--rev=1", "--prev-kv")
	fields := m.start(t, nil, "watch", "foo", "--rev=4", "-w", "fields")
	encoded := m.start(t, nil, "watch", "foo", "--rev=4", "-w", "json")
	runs := m.start(t, nil, "watch", "foo", "--rev=2", "--", "sh", "-c", `echo "$ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"`)
	plain.stdout.waitFor(t, "PUT\nfoo\nbar\nPUT\nfoo\nbar\nfoo\ntwo words\nDELETE\nfoo\ntwo words\nfoo\n\n")
	fields.stdout.waitFor(t, "\"Type\" : DELETE\n\"Key\" : \"foo\"\n\"CreateRevision\" : 0\n\"ModRevision\" : 4\n")
	encoded.stdout.waitFor(t, `"Events":[{"type":1,"kv":{"key":"Zm9v","mod_revision":4}}],"CompactRevision":0,"Canceled":false`)
	runs.stdout.waitFor(t, "\"PUT\" \"foo\" \"bar\"\n\"PUT\" \"foo\" \"two words\"\n\"DELETE\" \"foo\" \"\"\n")

	fails := m.start(t, nil, "watch", "foo", "--rev=2", "--", "sh", "-c", "exit 3")
	fails.wait(t)
	if fails.status != 1 || fails.stderr.String() != "command [\"sh\" \"-c\" \"exit 3\"] error (exit status 3)\n" {
		t.Errorf("got %d, %q", fails.status, fails.stderr.String())
	}
}

func TestAWatchThatTheServerCancels(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	for range 3 {
		m.must(t, "put", "k", "v")
	}
	m.must(t, "compaction", "3")
	got := m.run(t, "", "watch", "k", "--rev=2")
	want := "watch was canceled (etcdserver: mvcc: required revision has been compacted)\nError: watch is canceled by the server\n"
	if got.status != 5 || got.stderr != want {
		t.Errorf("got %+v", got)
	}
}

func TestInteractiveWatches(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	m.must(t, "put", "a", "1")
	m.must(t, "put", "b", "2")
	lines, keyboard := io.Pipe()
	w := m.start(t, lines, "watch", "-i")
	say := func(line string) {
		t.Helper()
		if _, err := io.WriteString(keyboard, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	say("bogus")
	w.stderr.waitFor(t, "Invalid command bogus (only support watch)\n")
	say("")
	w.stderr.waitFor(t, "Invalid command:  (watch and progress supported)\n")
	say("watch")
	w.stderr.waitFor(t, "Invalid command watch (command type or key is not provided)\n")
	say("watch a z --prefix")
	w.stderr.waitFor(t, "Invalid command watch a z --prefix (`range_end` and `--prefix` are mutually exclusive)\n")
	say("watch a --rev=1")
	w.stdout.waitFor(t, "PUT\na\n1\n")
	say(`watch "b" --rev=1 -- echo seen`)
	w.stdout.waitFor(t, "PUT\nb\n2\nseen\n")
	say("progress")
	w.stdout.waitFor(t, "progress notify: 3\n")
	say("watch a --rev=x")
	w.wait(t)
	if w.status != 128 {
		t.Errorf("got %d, %q", w.status, w.stderr.String())
	}
}

func TestALockIsHeldByOneAndGivenBack(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	first := m.start(t, nil, "lock", "l")
	first.stdout.waitFor(t, "l/")
	second := m.start(t, nil, "lock", "l", "--ttl=20", "sh", "--", "-c", `echo "got ${ETCD_LOCK_KEY%%/*} $ETCD_LOCK_REV"; exit 7`)
	first.end(t)
	if first.status != 0 {
		t.Errorf("got %d, %q", first.status, first.stderr.String())
	}
	second.wait(t)
	if got := second.stdout.String(); second.status != 7 || !strings.HasPrefix(got, "got l ") || second.stderr.String() != "Error: exit status 7\n" {
		t.Errorf("got %d, %q, %q", second.status, got, second.stderr.String())
	}
	if left := m.must(t, "get", "", "--prefix"); left != "" {
		t.Errorf("left: %q", left)
	}
}

// TestARenewalThatIsEnded ends it as Ctrl-C does in the shell: the lease is there still.
func TestARenewalThatIsEnded(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	lease := granted.FindStringSubmatch(m.must(t, "lease", "grant", "600"))[1]
	renewal := m.start(t, nil, "lease", "keep-alive", lease)
	renewal.stdout.waitFor(t, "keepalived")
	renewal.end(t)
	if said := renewal.stdout.String(); renewal.status != 130 || strings.Contains(said, "expired or revoked") {
		t.Errorf("got %d, %q", renewal.status, said)
	}
}

func TestAnElectionHasOneLeaderAfterTheOther(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	alice := m.start(t, nil, "elect", "boss", "alice")
	alice.stdout.waitFor(t, "\nalice\n")
	observer := m.start(t, nil, "elect", "--listen", "boss")
	observer.stdout.waitFor(t, "\nalice\n")
	bob := m.start(t, nil, "elect", "boss", "bob")
	alice.end(t)
	bob.stdout.waitFor(t, "\nbob\n")
	observer.stdout.waitFor(t, "\nbob\n")
	for _, c := range []*command{bob, observer} {
		if c.end(t); c.status != 0 {
			t.Errorf("got %d, %q", c.status, c.stderr.String())
		}
	}
}

func TestAMirrorCopiesAndFollows(t *testing.T) {
	t.Parallel()
	from, to := startMember(t), startMember(t)
	from.must(t, "put", "a/1", "x")
	from.must(t, "put", "b", "no")
	mirror := from.start(t, nil, "make-mirror", to.endpoint, "--prefix=a/", "--dest-prefix=c/")
	seen := to.start(t, nil, "watch", "c/", "--prefix", "--rev=1")
	seen.stdout.waitFor(t, "PUT\nc/1\nx\n")
	got := from.run(t, "\nput a/2 y\nput a/3 z\n\n\n", "txn")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	from.must(t, "del", "a/1")
	seen.stdout.waitFor(t, "PUT\nc/2\ny\nPUT\nc/3\nz\nDELETE\nc/1\n\n")
	if got, want := to.must(t, "get", "", "--prefix", "-w", "fields"), "\"Revision\" : 4\n"; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s: a transaction stays one revision", got, want)
	}
	mirror.end(t)
}

func TestASnapshotIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	m.must(t, "put", "k", "v")
	name := filepath.Join(t.TempDir(), "s.db")
	if got, want := m.must(t, "snapshot", "save", name), "Snapshot saved at "+name+"\nServer version 3.7.0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content := data[:len(data)-sha256.Size]
	if sum := sha256.Sum256(content); string(sum[:]) != string(data[len(content):]) {
		t.Error("the checksum does not fit")
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	other := filepath.Join(t.TempDir(), "t.db")
	got := m.run(t, "", "snapshot", "save", other, "--command-timeout=1ns")
	if got.status != 5 || got.stderr != "Error: context deadline exceeded\n" {
		t.Errorf("got %+v", got)
	}
	if left, err := os.ReadDir(filepath.Dir(other)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	m := member{endpoint: process.FreeAddress(t)}
	cases := map[string]struct {
		args   []string
		stdin  string
		status int
		stderr string
	}{
		"a read":                        {[]string{"get", "a"}, "", 1, "Error: context deadline exceeded\n"},
		"a lease":                       {[]string{"lease", "grant", "5"}, "", 1, "Error: failed to grant lease (context deadline exceeded)\n"},
		"leases, where etcdctl hangs":   {[]string{"lease", "list"}, "", 2, "Error: context deadline exceeded\n"},
		"a transaction, where it hangs": {[]string{"txn"}, "\n\n\n", 1, "Error: context deadline exceeded\n"},
		"users, where it hangs":         {[]string{"user", "list"}, "", 1, "Error: context deadline exceeded\n"},
		"a mirror, where it hangs":      {[]string{"make-mirror", m.endpoint}, "", 1, "Error: context deadline exceeded\n"},
		"a lock, where it hangs":        {[]string{"lock", "a", "true"}, "", 1, "Error: context deadline exceeded\n"},
		"an election, where it hangs":   {[]string{"elect", "a", "b"}, "", 1, "Error: context deadline exceeded\n"},
		"its leader, where it hangs":    {[]string{"elect", "--listen", "a"}, "", 1, "Error: context deadline exceeded\n"},
		"a check":                       {[]string{"check", "perf"}, "", 1, "Error: context deadline exceeded\n"},
		"a hash": {[]string{"endpoint", "hashkv"}, "", 1, "Failed to get the hash of endpoint " + m.endpoint +
			" (context deadline exceeded)\nError: context deadline exceeded\n"},
		"health": {[]string{"endpoint", "health"}, "", 1, m.endpoint +
			" is unhealthy: failed to commit proposal: context deadline exceeded\nError: unhealthy cluster\n"},
		"status": {[]string{"endpoint", "status"}, "", 1, "Failed to get the status of endpoint " + m.endpoint + " (context deadline exceeded)\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := m.run(t, c.stdin, append(c.args, "--command-timeout=200ms")...)
			if got.status != c.status || got.stderr != c.stderr {
				t.Errorf("got %+v", got)
			}
		})
	}
}
