package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var recordFormats = flag.String("record-formats", "", "write the files of this release to a new directory below testdata/formats")

// formatContent is what the files of a release hold.
type formatContent struct {
	Revision int64            `json:"revision"`
	Keys     int64            `json:"keys"`
	Lease    int64            `json:"lease"`
	Users    []string         `json:"users"`
	Hashes   map[int64]uint32 `json:"hashes"` // by revision
}

// TestFilesOfEveryReleaseAreOpened: a data directory, a snapshot and a backup of every release since 0.1 hold what they held. A
// directory below testdata/formats is never changed; a release that changes a format adds one.
func TestFilesOfEveryReleaseAreOpened(t *testing.T) {
	t.Parallel()
	if *recordFormats != "" {
		record(t, filepath.Join("testdata", "formats", *recordFormats))
	}
	releases, err := filepath.Glob(filepath.Join("testdata", "formats", "*"))
	noError(t, err)
	if len(releases) == 0 {
		t.Fatal("there are no files of earlier releases")
	}
	for _, dir := range releases {
		text, err := os.ReadFile(filepath.Join(dir, "content.json"))
		noError(t, err)
		var want formatContent
		noError(t, json.Unmarshal(text, &want))
		t.Run(filepath.Base(dir)+"/data directory", func(t *testing.T) {
			t.Parallel()
			m := newMember(t)
			unpack(t, filepath.Join(dir, "data-dir.tar.gz"), m.dataDir)
			utility(t, "verify", m.dataDir)
			checkContent(t, m, want)
		})
		t.Run(filepath.Base(dir)+"/snapshot", func(t *testing.T) {
			t.Parallel()
			m := newMember(t)
			restoreTo(t, m, filepath.Join(dir, "snapshot.db"))
			checkContent(t, m, want)
		})
		t.Run(filepath.Base(dir)+"/backup", func(t *testing.T) {
			t.Parallel()
			m := newMember(t)
			backup := filepath.Join(t.TempDir(), "backup")
			unpack(t, filepath.Join(dir, "backup.tar.gz"), backup)
			utility(t, "verify", backup)
			utility(t, "restore", backup, "--data-dir", m.dataDir, "--keep-revision", "--initial-cluster", "default="+m.peer,
				"--initial-advertise-peer-urls", m.peer)
			checkContent(t, m, want)
		})
	}
}

// checkContent starts the member and compares what it has.
func checkContent(t *testing.T, m *member, want formatContent) {
	t.Helper()
	m.start(t)
	c := m.connect(t)
	if got := contentOf(t, m, c, want.Hashes); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	_, err := c.Put(within(t, process.Patience), "new", "v")
	noError(t, err)
}

func contentOf(t *testing.T, m *member, c *clientv3.Client, revisions map[int64]uint32) formatContent {
	t.Helper()
	ctx := within(t, process.Patience)
	all, err := c.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	noError(t, err)
	leases, err := c.Leases(ctx)
	noError(t, err)
	users, err := c.UserList(ctx)
	noError(t, err)
	got := formatContent{Revision: all.Header.Revision, Keys: all.Count, Users: users.Users, Hashes: map[int64]uint32{}}
	if len(leases.Leases) == 1 {
		got.Lease = int64(leases.Leases[0].ID)
	}
	for rev := range revisions {
		h, err := c.HashKV(ctx, m.client, rev)
		noError(t, err)
		got.Hashes[rev] = h.Hash
	}
	return got
}

// record makes the files of this release.
func record(t *testing.T, dir string) {
	t.Helper()
	noError(t, os.Mkdir(dir, 0o755))
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	ctx := within(t, process.Patience)
	backup := filepath.Join(t.TempDir(), "backup")
	address := strings.TrimPrefix(m.client, "http://")
	for i := range 20 {
		_, err := c.Put(ctx, fmt.Sprintf("key-%02d", i%8), fmt.Sprintf("value-%d", i))
		noError(t, err)
	}
	utility(t, "backup", "create", backup, "--endpoints", address)
	for _, letter := range []string{"a", "b"} { // values that the state has kept apart from their keys since its format 2
		_, err := c.Put(ctx, "large", strings.Repeat(letter, 5000))
		noError(t, err)
	}
	lease, err := c.Grant(ctx, 9_000_000)
	noError(t, err)
	_, err = c.Put(ctx, "leased", "x", clientv3.WithLease(lease.ID))
	noError(t, err)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("b", "2"), clientv3.OpDelete("key-00")).Commit()
	noError(t, err)
	_, err = c.UserAdd(ctx, "u", "p")
	noError(t, err)
	_, err = c.RoleAdd(ctx, "r")
	noError(t, err)
	_, err = c.Compact(ctx, 12, clientv3.WithCompactPhysical())
	noError(t, err)
	content := contentOf(t, m, c, map[int64]uint32{13: 0, 18: 0, 22: 0, 25: 0})
	text, err := json.MarshalIndent(content, "", " ")
	noError(t, err)
	noError(t, os.WriteFile(filepath.Join(dir, "content.json"), append(text, '\n'), 0o644))
	utility(t, "backup", "create", backup, "--endpoints", address)
	command(t, program.path, "ctl", "--endpoints", address, "snapshot", "save", filepath.Join(dir, "snapshot.db"))
	s.Stop(t)
	pack(t, m.dataDir, filepath.Join(dir, "data-dir.tar.gz"))
	pack(t, backup, filepath.Join(dir, "backup.tar.gz"))
}

// pack writes the files of a directory to an archive.
func pack(t *testing.T, dir, path string) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	noError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		name, err = filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		err = w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o600, Size: int64(len(content))})
		_, werr := w.Write(content)
		return errors.Join(err, werr)
	}))
	noError(t, errors.Join(w.Close(), z.Close()))
	noError(t, os.WriteFile(path, b.Bytes(), 0o644))
}

// unpack writes what pack made to a new directory.
func unpack(t *testing.T, path, dir string) {
	t.Helper()
	b, err := os.ReadFile(path)
	noError(t, err)
	z, err := gzip.NewReader(bytes.NewReader(b))
	noError(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		noError(t, err)
		content, err := io.ReadAll(r)
		noError(t, err)
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		noError(t, os.MkdirAll(filepath.Dir(to), 0o700))
		noError(t, os.WriteFile(to, content, 0o600))
	}
}
