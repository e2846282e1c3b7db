package member

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/takeover"
)

// unpackEtcd unpacks a directory that etcd has left (etcdgenerate_test.go made it).
func unpackEtcd(t testing.TB, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpack(t, f, dir)
	return dir
}

func unpack(t testing.TB, from io.Reader, dir string) {
	t.Helper()
	z, err := gzip.NewReader(from)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		b, err := io.ReadAll(r)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
		if size, err := strconv.ParseInt(h.PAXRecords[paxSize], 10, 64); err == nil {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func etcdSummaryOf(t testing.TB, name string) (s etcdSummary) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// takerOf describes a member on a disk of its own that takes over what etcd left in dir.
func takerOf(t testing.TB, disk *vfs.MemFS, dir string) Config {
	t.Helper()
	cfg := configOf(t, disk, alone)
	cfg.Etcd = &takeover.Place{DataDir: dir}
	return cfg
}

// filesOf returns the content of every file below a directory, zeros at its end left out.
func filesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path) // it is below
		files[rel] = strings.TrimRight(string(b), "\x00")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var etcdVersions = []string{"3.5", "3.6", "3.7"}

func TestADirectoryThatEtcdLeftIsTakenOverWithAllThatItHeld(t *testing.T) {
	t.Parallel()
	for _, v := range etcdVersions {
		for _, how := range []string{"stopped", "killed"} {
			t.Run(v+" "+how, func(t *testing.T) {
				t.Parallel()
				name := "etcd-" + v + "-" + how
				dir, want := unpackEtcd(t, name), etcdSummaryOf(t, name)
				before := filesOf(t, filepath.Join(dir, "member"))
				disk := vfs.NewCrashableMem()
				m := start(t, takerOf(t, disk, dir))
				checkTaken(t, m, want)
				if !want.AuthEnabled { // else nobody may
					put(t, m, "late/0", "new")
				}
				stop(t, m)
				if got := filesOf(t, filepath.Join(dir, "member.etcd-taken-over")); !maps.Equal(got, before) {
					t.Error("etcd's files were changed")
				}
				if info, err := os.Stat(filepath.Join(dir, "member")); err != nil || !info.Mode().IsRegular() {
					t.Errorf("the guard: %v, %v", info, err)
				}
				// It starts again as a member like any other, also without etcd's files.
				if err := os.RemoveAll(filepath.Join(dir, "member.etcd-taken-over")); err != nil {
					t.Fatal(err)
				}
				m = start(t, takerOf(t, disk, dir))
				if got := get(t, m, "late/0"); (got != "new") != want.AuthEnabled {
					t.Errorf("late/0 is %q", got)
				}
				stop(t, m)
			})
		}
	}
}

// checkTaken compares a member with what etcd said of the directory.
func checkTaken(t testing.TB, m *Member, want etcdSummary) {
	t.Helper()
	if m.ID() != want.MemberID || m.ClusterID() != want.ClusterID {
		t.Errorf("it is member %x of %x, want %x of %x", m.ID(), m.ClusterID(), want.MemberID, want.ClusterID)
	}
	if got := m.Store().Revision(); got != want.Revision {
		t.Errorf("the revision is %d, want %d", got, want.Revision)
	}
	if got := m.Store().CompactRevision(); got != want.CompactRevision {
		t.Errorf("it is compacted to %d, want %d", got, want.CompactRevision)
	}
	for rev, hash := range want.Hashes {
		got, compacted, _, err := m.Store().HashKV(t.Context(), rev)
		if err != nil || got != hash || compacted != want.CompactRevision {
			t.Errorf("the hash at %d is %d, compacted to %d, %v; want %d", rev, got, compacted, err, hash)
		}
	}
	leases := map[int64]etcdLease{}
	for _, l := range m.LeaseTable().List() {
		keys, err := m.LeaseTable().Keys(m.gen.Load().db, l.ID)
		if err != nil {
			t.Fatal(err)
		}
		x := etcdLease{TTL: l.TTL}
		for _, k := range keys {
			x.Keys = append(x.Keys, string(k))
		}
		slices.Sort(x.Keys)
		leases[l.ID] = x
	}
	if !reflect.DeepEqual(leases, want.Leases) {
		t.Errorf("the leases are %v, want %v", leases, want.Leases)
	}
	var members []string
	for _, x := range m.Members().Members() {
		members = append(members, fmt.Sprintf("%x %v %v", uint64(x.ID), x.PeerURLs, x.IsLearner))
	}
	slices.Sort(members)
	if !slices.Equal(members, want.Members) {
		t.Errorf("the members are %v, want %v", members, want.Members)
	}
	accounts := m.gen.Load().accounts
	if accounts.Enabled() != want.AuthEnabled || accounts.Revision() != want.AuthRevision {
		t.Errorf("authentication is on: %v, at %d; want %v, %d", accounts.Enabled(), accounts.Revision(), want.AuthEnabled, want.AuthRevision)
	}
	for user, roles := range want.Users {
		if u, ok := accounts.User(user); !ok || !slices.Equal(u.Roles, roles) {
			t.Errorf("the user %s has %v, %v; want %v", user, u.Roles, ok, roles)
		}
	}
}

func TestEntriesThatWereNotCommittedStayInTheLogAndTheVoteIsKept(t *testing.T) {
	t.Parallel()
	for _, v := range etcdVersions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			name := "etcd-" + v + "-uncommitted"
			dir, want := unpackEtcd(t, name), etcdSummaryOf(t, name)
			disk := vfs.NewCrashableMem()
			m := open(t, takerOf(t, disk, dir))
			step(m)
			hs := m.log.HardState()
			if hs.Term != want.Term || hs.Vote != want.MemberID {
				t.Errorf("term %d and vote %x, want %d and %x", hs.Term, hs.Vote, want.Term, want.MemberID)
			}
			applied, _ := m.Store().Applied()
			if hs.Commit != want.Commit || applied != want.Commit || m.log.LastIndex() != want.Commit+want.Pending {
				t.Errorf("commit %d, applied %d, last %d; want %d and %d more", hs.Commit, applied, m.log.LastIndex(), want.Commit, want.Pending)
			}
			if m.Store().Revision() != want.Revision {
				t.Errorf("revision %d, want %d", m.Store().Revision(), want.Revision)
			}
			if n := len(m.Members().Members()); n != 3 {
				t.Errorf("%d members", n)
			}
			stop(t, m)
		})
	}
}

func TestADirectoryIsNotTakenOver(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string)
		refused error
		text    string
	}{
		"when its log is missing": {func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "member", "wal")); err != nil {
				t.Fatal(err)
			}
		}, takeover.ErrRefused, "--wal-dir"},
		"when its database is missing": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "member", "snap", "db")); err != nil {
				t.Fatal(err)
			}
		}, takeover.ErrRefused, "database"},
		"when its log is damaged": {func(t *testing.T, dir string) {
			logs, _ := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
			b, err := os.ReadFile(logs[0])
			if err != nil {
				t.Fatal(err)
			}
			b[3000] ^= 1
			write(t, logs[0], string(b))
		}, takeover.ErrRefused, ".wal, offset "},
		"when it was taken over and ours is gone": {func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "member"), filepath.Join(dir, "member.etcd-taken-over")); err != nil {
				t.Fatal(err)
			}
		}, ErrRefused, "was taken over from etcd"},
		"when only the guard is left": {func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "member")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "member"), "guard")
		}, ErrRefused, "was taken over from etcd"},
		"when an earlier take-over has left etcd's files": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "member.etcd-taken-over", "snap", "db"), "")
		}, takeover.ErrRefused, "member.etcd-taken-over"},
		"when etcd was started again in the middle": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "member.etcd-taking-over", "snap", "db"), "")
		}, takeover.ErrRefused, "while it was taken over"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := unpackEtcd(t, "etcd-3.7-stopped")
			c.prepare(t, dir)
			before := filesOf(t, dir)
			for range 2 {
				m, err := Open(takerOf(t, vfs.NewMem(), dir))
				if err == nil {
					stop(t, m)
					t.Fatal("it was")
				}
				if !errors.Is(err, c.refused) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("got %v, want one with %q", err, c.text)
				}
			}
			if !maps.Equal(before, filesOf(t, dir)) {
				t.Error("etcd's files were changed")
			}
		})
	}
}

func TestEtcdsDataBesideAMemberOfOursAreRefused(t *testing.T) {
	t.Parallel()
	disk := founded(t)
	dir := unpackEtcd(t, "etcd-3.7-stopped")
	m, err := Open(takerOf(t, disk, dir))
	if err == nil {
		stop(t, m)
		t.Fatal("it starts")
	}
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "both") {
		t.Error(err)
	}
	if found, err := (takeover.Place{DataDir: dir}).Look(); found != takeover.Member || err != nil {
		t.Errorf("etcd's directory is %v, %v", found, err)
	}
}

func TestAMemberOfEtcdThatStillRunsIsNotTakenOver(t *testing.T) {
	t.Parallel()
	dir := unpackEtcd(t, "etcd-3.7-stopped")
	etcd, err := bolt.Open(filepath.Join(dir, "member", "snap", "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Open(takerOf(t, vfs.NewMem(), dir)); !errors.Is(err, takeover.ErrRefused) || !strings.Contains(err.Error(), "does etcd still run") {
		t.Errorf("got %v", err)
		if err == nil {
			stop(t, m)
		}
	}
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, takerOf(t, vfs.NewMem(), dir)))
}

// TestTheRecordedDirectoryHasEtcdsHashes takes over a directory that was recorded beside the repository.
func TestTheRecordedDirectoryHasEtcdsHashes(t *testing.T) {
	t.Parallel()
	const base = "../../../shared/data/data-dir-clean"
	f, err := os.Open(base + ".tar.gz")
	if err != nil {
		t.Skipf("SKIPPED for want of the recorded data beside the repository: %v", err)
	}
	defer f.Close()
	text, err := os.ReadFile(base + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		AfterOpen struct {
			Revision        int64
			TotalKeys       int64 `json:"total_keys"`
			CompactRevision int64 `json:"compact_revision"`
			AtRevisions     []struct {
				Revision int64
				Keys     int64
				HashKV   uint32
			} `json:"at_revisions"`
			HashKV struct{ Hash uint32 }
			Leases int
			Users  map[string][]string
			ID     uint64 `json:"cluster_id"`
		} `json:"after_open"`
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	after := want.AfterOpen
	s := etcdSummary{ClusterID: after.ID, MemberID: 0x2d1792830cf77623, Revision: after.Revision, CompactRevision: after.CompactRevision,
		Hashes: map[int64]uint32{after.Revision: after.HashKV.Hash}, Users: after.Users, AuthRevision: 5,
		Members: []string{"2d1792830cf77623 [http://127.0.0.1:32671] false"},
		Leases:  map[int64]etcdLease{0x7623a1fc284fceba: {500000, []string{"clean/leased1", "clean/leased2", "clean/leased3", "clean/leased4"}}}}
	for _, at := range after.AtRevisions {
		s.Hashes[at.Revision] = at.HashKV
	}
	dir := t.TempDir()
	unpack(t, f, dir)
	m := start(t, takerOf(t, vfs.NewMem(), dir))
	checkTaken(t, m, s)
	if got := m.Members().Members()[0]; got.Name != "solo" || got.ID != cluster.ID(s.MemberID) {
		t.Errorf("it calls itself %v", got)
	}
	stop(t, m)
}
