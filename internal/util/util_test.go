package util

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// small is a snapshot that etcd 3.7.1 saved: 10 keys with history from revision 12 to 36, a lease, a user, a role.
const small = "testdata/small.snapshot.db"

// outcome is what a run left behind; log lines are not part of stderr.
type outcome struct {
	status         int
	stdout, stderr string
}

func tool(args ...string) outcome {
	var stdout, stderr bytes.Buffer
	status := Run(context.Background(), Process{Program: "etcdutl", Args: args, Stdout: &stdout, Stderr: &stderr})
	said := ""
	for line := range strings.Lines(stderr.String()) {
		if !strings.Contains(line, "\tinfo\t") && !strings.Contains(line, "\twarn\t") && !strings.Contains(line, "\terror\t") {
			said += line
		}
	}
	return outcome{status, stdout.String(), said}
}

func TestResultsAreThoseOfEtcdsTool(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		want outcome
	}{
		"status": {[]string{"snapshot", "status", small}, outcome{0, "708615f, 36, 10, 25 kB, 3.7.0\n", ""}},
		"status in fields": {[]string{"snapshot", "status", small, "-w", "fields"}, outcome{0,
			"\"Hash\" : 117989727\n\"Revision\" : 36\n\"Keys\" : 10\n\"Size\" : 24576\n\"Version\" : 3.7.0\n", ""}},
		"status in JSON": {[]string{"snapshot", "status", small, "-w", "json"}, outcome{0,
			`{"hash":117989727,"revision":36,"totalKey":10,"totalSize":24576,"version":"3.7.0"}` + "\n", ""}},
		"status in a table": {[]string{"snapshot", "status", small, "-w", "table"}, outcome{0,
			"┌─────────┬──────────┬────────────┬────────────┬─────────┐\n" +
				"│  HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n" +
				"├─────────┼──────────┼────────────┼────────────┼─────────┤\n" +
				"│ 708615f │       36 │         10 │      25 kB │   3.7.0 │\n" +
				"└─────────┴──────────┴────────────┴────────────┴─────────┘\n", ""}},
		"status in a format that it lacks": {[]string{"snapshot", "status", small, "-w", "protobuf"},
			outcome{4, "", "Error: protobuf not supported as output format\n"}},
		"status in no format":    {[]string{"snapshot", "status", small, "-w", "x"}, outcome{4, "", "Error: unsupported output format\n"}},
		"status of a directory":  {[]string{"snapshot", "status", "testdata"}, outcome{1, "", "Error: invalid database\n"}},
		"status of nothing":      {[]string{"snapshot", "status"}, outcome{128, "", "Error: snapshot status requires exactly one argument\n"}},
		"hash":                   {[]string{"hashkv", small}, outcome{0, "4036300321, 36, 12\n", ""}},
		"hash at a revision":     {[]string{"hashkv", small, "--rev", "20"}, outcome{0, "2702006363, 20, 12\n", ""}},
		"hash below all":         {[]string{"hashkv", small, "--rev=-1"}, outcome{0, "1084519789, -1, 12\n", ""}},
		"hash of what is gone":   {[]string{"hashkv", small, "--rev", "11"}, outcome{1, "", "Error: mvcc: required revision has been compacted\n"}},
		"hash of what will be":   {[]string{"hashkv", small, "--rev", "1000"}, outcome{1, "", "Error: mvcc: required revision is a future revision\n"}},
		"version":                {[]string{"version"}, outcome{0, "etcdutl version: 3.7.1\nAPI version: 3.7\n", ""}},
		"bump without the other": {[]string{"snapshot", "restore", small, "--bump-revision", "1"}, outcome{128, "", "Error: --mark-compacted required if --revision-bump > 0\n"}},
		"a version too old":      {[]string{"migrate", "--data-dir", "x", "--target-version", "3.4"}, outcome{128, "", "Error: target version \"3.4\" not supported. Minimal \"3.5\"\n"}},
		"a version that is none": {[]string{"migrate", "--data-dir", "x", "--target-version", "x"}, outcome{128, "", "Error: wrong target version format, expected \"X.Y\", got \"x\"\n"}},
		"defragmenting nothing": {[]string{"defrag", "--data-dir", "none"}, outcome{1, "",
			"Error: Failed to defragment etcd data[none] (stat none/member/snap/db: no such file or directory)\n"}},
		"a restore that does not say what becomes of the revision": {[]string{"restore", "none"}, outcome{128, "",
			"Error: say what becomes of the revision: --keep-revision, or --bump-revision N with --mark-compacted\n"}},
		"two sources": {[]string{"backup", "create", "x", "--data-dir", "a", "--snapshot", "b"}, outcome{128, "",
			"Error: only one of --endpoints, --data-dir and --snapshot can be backed up\n"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tool(c.args...); got != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestMistakesShowTheUsage(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"Error: required flag(s) \"data-dir\" not set\nUsage:\n": {"defrag"},
		"Error: unknown flag: --hex\nUsage:\n":                   {"hashkv", "--hex"},
		"Error: accepts 1 arg(s), received 0\nUsage:\n":          {"hashkv"},
		"Error: unknown command \"x\" for \"etcdutl\"\nRun 'e":   {"x"},
	} {
		if got := tool(args...); got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, want) {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

// restored is the data directory that the small snapshot was restored to.
func restored(t *testing.T, args ...string) (dataDir string) {
	t.Helper()
	dataDir = filepath.Join(t.TempDir(), "data")
	if got := tool(append([]string{"snapshot", "restore", small, "--data-dir", dataDir}, args...)...); got != (outcome{}) {
		t.Fatalf("got %+v", got)
	}
	return dataDir
}

func TestARestoredMemberHasWhatTheSnapshotHad(t *testing.T) {
	t.Parallel()
	dir := restored(t)
	if got := tool("hashkv", filepath.Join(dir, "ashlar")); got.stdout != "4036300321, 36, 12\n" {
		t.Errorf("got %+v", got)
	}
	if got := tool("snapshot", "status", filepath.Join(dir, "member", "snap", "db")); !strings.HasPrefix(got.stdout, "e4f0e60d, 36, 10, ") ||
		!strings.HasSuffix(got.stdout, ", 3.7.0\n") {
		t.Errorf("got %+v", got)
	}
	if got := tool("verify", dir); got.status != 0 || !strings.Contains(got.stdout, ": whole: ") ||
		!strings.Contains(got.stdout, "revision 36, ") || !strings.Contains(got.stdout, "33 versions, 1 leases, 1 members") {
		t.Errorf("got %+v", got)
	}
	for _, args := range [][]string{{"defrag"}, {"migrate", "--target-version", "3.6"}} {
		if got := tool(append(args, "--data-dir", dir)...); got != (outcome{}) {
			t.Errorf("%v: got %+v", args, got)
		}
	}
	if got := tool("snapshot", "restore", small, "--data-dir", dir); got.stderr != fmt.Sprintf("Error: data-dir %q not empty or could not be read\n", dir) {
		t.Errorf("got %+v", got)
	}
}

func TestARaisedRevisionIsWhereEtcdsToolRaisesItTo(t *testing.T) {
	t.Parallel()
	dir := restored(t, "--bump-revision", "1000", "--mark-compacted")
	copied := filepath.Join(t.TempDir(), "db")
	b, err := os.ReadFile(filepath.Join(dir, "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tool("snapshot", "status", copied); !strings.Contains(got.stdout, ", 1036, 11, ") { // the version that raises it is one, too
		t.Errorf("got %+v", got)
	}
	if got := tool("hashkv", filepath.Join(dir, "ashlar"), "--rev", "1035"); got.stderr != "Error: mvcc: required revision has been compacted\n" {
		t.Errorf("got %+v", got)
	}
	// A database of etcd's that was raised restores at that revision, too.
	again := filepath.Join(t.TempDir(), "data")
	if got := tool("snapshot", "restore", copied, "--skip-hash-check", "--data-dir", again); got != (outcome{}) {
		t.Fatalf("got %+v", got)
	}
	if got := tool("hashkv", filepath.Join(again, "ashlar")); !strings.HasSuffix(got.stdout, ", 1036, 1036\n") {
		t.Errorf("got %+v", got)
	}
	if got := tool("verify", again); got.status != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestASnapshotOfANewerEtcdIsRefused: what its records have that we do not know would be lost.
func TestASnapshotOfANewerEtcdIsRefused(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]outcome{
		"3.8.0": {1, "", "Error: the snapshot is of etcd 3.8.0, this release goes up to 3.7\n"},
		"4.0.0": {1, "", "Error: the snapshot is of etcd 4.0.0, this release goes up to 3.7\n"},
		"3.x":   {1, "", "Error: the snapshot's version \"3.x\": no dot\n"},
		"3.7.9": {},
		"3.6.0": {},
		"":      {}, // 3.5
	} {
		path, target := filepath.Join(t.TempDir(), "snapshot"), filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := etcdfile.SetStorageVersion(path, version, 0); err != nil {
			t.Fatal(err)
		}
		if got := tool("snapshot", "restore", path, "--skip-hash-check", "--data-dir", target); got != want {
			t.Errorf("%q: got %+v", version, got)
		}
		if _, err := os.Stat(target); os.IsNotExist(err) != (want.status != 0) {
			t.Errorf("%q: the target: %v", version, err)
		}
	}
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[9000] ^= 1
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"a flipped bit": {flipped, "Error: expected sha256 ["},
		"no checksum":   {whole[:len(whole)-32], "Error: snapshot missing hash but --skip-hash-check=false\n"},
		"cut short":     {whole[:8192+32], "Error: expected sha256 ["},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "snapshot")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(t.TempDir(), "data")
			if got := tool("snapshot", "restore", path, "--data-dir", target); got.status != 1 || !strings.HasPrefix(got.stderr, c.want) {
				t.Errorf("got %+v", got)
			}
			if _, err := os.Stat(target); !os.IsNotExist(err) {
				t.Errorf("something was made: %v", err)
			}
			if got := tool("verify", path); name != "no checksum" && got.status != 1 {
				t.Errorf("verify: got %+v", got)
			}
			if got := tool("snapshot", "restore", path, "--data-dir", target, "--skip-hash-check"); name == "cut short" && got.status != 1 {
				t.Errorf("skipping the check: got %+v", got)
			}
		})
	}
}

func TestARestoreThatDidNotFinishIsRefused(t *testing.T) {
	t.Parallel()
	dir := restored(t)
	if err := storage.BeginRestore(vfs.Default, dir); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"hashkv", filepath.Join(dir, "ashlar")}, {"verify", dir}, {"defrag", "--data-dir", dir},
		{"snapshot", "restore", small, "--data-dir", dir}, {"migrate", "--target-version", "3.6", "--data-dir", dir}} {
		if got := tool(args...); got.status != 1 || !strings.Contains(got.stderr, "did not finish") || !strings.Contains(got.stderr, dir) {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

func TestVerifyTellsDamageWithItsFile(t *testing.T) {
	t.Parallel()
	dir := restored(t)
	var files []string // of the state, and of the log
	for _, pattern := range []string{"*.sst", "*.seg"} {
		found, err := filepath.Glob(filepath.Join(dir, "ashlar", "*", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("got %v, %v", found, err)
		}
		files = append(files, found...)
	}
	for _, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(whole)-60; at += max(1, len(whole)/12) {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 4
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			status := Run(context.Background(), Process{Program: "etcdutl", Args: []string{"verify", dir}, Stdout: &stdout, Stderr: &stderr})
			if status != 1 || !strings.Contains(stderr.String(), path) || !strings.Contains(stderr.String(), storage.Remedy) {
				t.Errorf("%s, byte %d: got %d, %s%s", path, at, status, &stdout, &stderr)
			}
			if strings.HasSuffix(path, ".sst") && !strings.Contains(stdout.String(), ": DAMAGED: ") {
				t.Errorf("%s, byte %d: there is no verdict: %s%s", path, at, &stdout, &stderr)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := tool("verify", dir); got.status != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestAMemberOfEtcdThatWasNotTakenOverIsEtcds although the start that was refused has left a directory of ours beside it.
func TestAMemberOfEtcdThatWasNotTakenOverIsEtcds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	snap := filepath.Join(dir, "member", "snap")
	b, err := os.ReadFile(small)
	if err == nil {
		err = errors.Join(os.MkdirAll(snap, 0o700), os.MkdirAll(filepath.Join(dir, "ashlar", "log"), 0o700))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(snap, "db"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := tool("hashkv", filepath.Join(snap, "db")); got.stdout != "4036300321, 36, 12\n" {
		t.Errorf("got %+v", got)
	}
	if got := tool("defrag", "--data-dir", dir); got != (outcome{}) {
		t.Errorf("got %+v", got)
	}
	// The database is looked at, whose log this directory lacks.
	if got := tool("verify", dir); !strings.Contains(got.stderr, "list the write-ahead log") {
		t.Errorf("got %+v", got)
	}
}

// TestIncompleteDirectoriesAreRefused puts together what does not belong together.
func TestIncompleteDirectoriesAreRefused(t *testing.T) {
	t.Parallel()
	move := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join("ashlar", "state-0000000000000001")
	cases := map[string]struct {
		spoil func(t *testing.T, dir, other string)
		want  string
	}{
		"the log of another member": {func(t *testing.T, dir, other string) {
			move(t, filepath.Join(other, "ashlar", "log"), filepath.Join(dir, "ashlar", "log"))
		}, "belong to different members"},
		"the state of another member": {func(t *testing.T, dir, other string) { move(t, filepath.Join(other, state), filepath.Join(dir, state)) },
			"belong to different members"},
		"the log was moved away": {func(t *testing.T, dir, other string) {
			move(t, filepath.Join(dir, "ashlar", "log"), filepath.Join(other, "log"))
		}, "has no log in"},
		"the state was moved away": {func(t *testing.T, dir, other string) {
			move(t, filepath.Join(dir, state), filepath.Join(other, "state"))
		},
			"which is not there"},
		"the identity is damaged": {func(t *testing.T, dir, _ string) {
			if err := os.WriteFile(filepath.Join(dir, "ashlar", "IDENTITY"), []byte("format=1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "its checksum does not match"},
		"a newer release wrote it": {func(t *testing.T, dir, _ string) {
			text := "format=99\n"
			text += fmt.Sprintf("crc=%08x\n", crcOf(text))
			if err := os.WriteFile(filepath.Join(dir, "ashlar", "IDENTITY"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "was written by a newer release"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := restored(t)
			c.spoil(t, dir, restored(t))
			if got := tool("hashkv", filepath.Join(dir, "ashlar")); got.status != 1 || !strings.Contains(got.stderr, c.want) || !strings.Contains(got.stderr, dir) {
				t.Errorf("got %+v", got)
			}
			if got := tool("verify", dir); got.status != 1 {
				t.Errorf("verify: got %+v", got)
			}
		})
	}
}

// TestAStateThatIsKnownToBeWrongIsNotTakenForWhole has a member that was stopped before it had rebuilt its state.
func TestAStateThatIsKnownToBeWrongIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	dir := restored(t)
	mark := filepath.Join(storage.Root(dir), storage.RebuildName)
	if err := os.WriteFile(mark, []byte("generation=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	for _, args := range [][]string{{"backup", "create", backup, "--data-dir", dir}, {"verify", dir}, {"hashkv", storage.Root(dir)}} {
		var stdout, stderr bytes.Buffer
		status := Run(context.Background(), Process{Program: "etcdutl", Args: args, Stdout: &stdout, Stderr: &stderr})
		if looks := args[0] == "hashkv"; (status == 0) != looks || !strings.Contains(stderr.String(), "differ from the majority's") || !strings.Contains(stderr.String(), mark) {
			t.Errorf("%v: got %d, %s%s", args, status, &stdout, &stderr)
		}
	}
	if _, err := os.Stat(backup); !os.IsNotExist(err) {
		t.Errorf("a backup was begun: %v", err)
	}
	if err := os.Remove(mark); err != nil { // an operator takes it for right
		t.Fatal(err)
	}
	for _, args := range [][]string{{"backup", "create", backup, "--data-dir", dir}, {"verify", dir}} {
		if got := tool(args...); got.status != 0 {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

func TestABackupOfAStoppedMemberRestores(t *testing.T) {
	t.Parallel()
	dir := restored(t)
	backup := filepath.Join(t.TempDir(), "backup[1") // which is no pattern
	if got := tool("backup", "create", backup, "--snapshot", small); got.status != 0 || !strings.HasPrefix(got.stdout, "point 1: full, revision 36, 33 versions, ") {
		t.Fatalf("got %+v", got)
	}
	if got := tool("backup", "create", backup, "--data-dir", dir); got.status != 0 || !strings.HasPrefix(got.stdout, "point 2: increment to 1, revision 36, 33 versions, ") {
		t.Fatalf("got %+v", got)
	}
	if got := tool("verify", backup); got.status != 0 || strings.Count(got.stdout, "\n") != 2 {
		t.Errorf("got %+v", got)
	}
	target := filepath.Join(t.TempDir(), "data")
	if got := tool("restore", backup, "--data-dir", target, "--keep-revision"); got != (outcome{}) {
		t.Fatalf("got %+v", got)
	}
	if got := tool("hashkv", filepath.Join(target, "ashlar")); got.stdout != "4036300321, 36, 12\n" {
		t.Errorf("got %+v", got)
	}
	if entries, err := os.ReadDir(filepath.Dir(target)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := os.Truncate(filepath.Join(backup, "000001.db"), 100); err != nil {
		t.Fatal(err)
	}
	if got := tool("verify", backup); got.status != 1 {
		t.Errorf("got %+v", got)
	}
	if got := tool("restore", backup, "--data-dir", target+"2", "--keep-revision"); got.status != 1 || !strings.Contains(got.stderr, "000001.db") {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(target + "2"); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
}
