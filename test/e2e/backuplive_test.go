package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestABackupOfARunningMemberWithTLSAndUsers is made by who may make it, and by nobody else; what it holds is restored.
func TestABackupOfARunningMemberWithTLSAndUsers(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd has no such backup")
	}
	e := newEncrypted(t, false)
	s := e.start(t)
	ctx := within(t, process.Patience)
	secure(ctx, t, e.connect(t))
	root := e.as(t, "root", "rootpw")
	put := func(from, to int) {
		for i := from; i < to; i++ {
			_, err := root.Put(ctx, fmt.Sprintf("k%02d", i), fmt.Sprint(i))
			noError(t, err)
		}
	}
	dir := filepath.Join(e.dir, "backup")
	backup := func(flags ...string) (string, error) {
		command := exec.CommandContext(ctx, program.path, append([]string{"util", "backup", "create", dir, "--endpoints", e.client}, flags...)...)
		command.Env = process.CleanEnvironment()
		out, err := command.CombinedOutput()
		return string(out), err
	}
	put(0, 10)
	for what, flags := range map[string][]string{
		"who does not trust the server": {"--user", "root:rootpw"},
		"nobody":                        {"--cacert", e.ca.File},
		"who has a wrong password":      {"--cacert", e.ca.File, "--user", "root:wrong"},
		"who is not root":               {"--cacert", e.ca.File, "--user", "u:upw"},
	} {
		if out, err := backup(flags...); err == nil {
			t.Errorf("%s may: %s", what, out)
		}
	}
	may := []string{"--cacert", e.ca.File, "--user", "root:rootpw"}
	for i, want := range []string{"point 1: full, ", "point 2: increment to 1, "} {
		put(10*i, 10*i+15)
		if out, err := backup(may...); err != nil || !strings.HasPrefix(out, want) {
			t.Fatalf("point %d: %v, %s", i+1, err, out)
		}
	}
	s.stop(t)

	restored := newMember(t)
	out, err := exec.CommandContext(ctx, program.path, "util", "restore", dir, "--keep-revision", "--data-dir", restored.dataDir,
		"--name", "default", "--initial-cluster", "default="+restored.peer, "--initial-advertise-peer-urls", restored.peer).CombinedOutput()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	restored.start(t)
	got, err := restored.as(t, "root", "rootpw").Get(ctx, "k", clientv3.WithPrefix())
	noError(t, err)
	if got.Count != 25 || string(got.Kvs[24].Value) != "24" {
		t.Errorf("%d keys were restored", got.Count)
	}
}
