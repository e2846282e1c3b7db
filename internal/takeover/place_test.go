package takeover

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAMemberThatWasClaimedBesideWhatATakeOverHadLeft: who starts it is told what to do, and it goes on from there.
func TestAMemberThatWasClaimedBesideWhatATakeOverHadLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{"member.etcd-taking-over/snap", "member.etcd-taken-over/snap"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p, left := Place{DataDir: dir}, filepath.Join(dir, "member.etcd-taken-over")
	err := p.Finish()
	if !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENOTEMPTY) || !strings.Contains(err.Error(), left+" is left of an earlier take-over, and nothing reads it: remove it") {
		t.Errorf("beside it: %v", err)
	}
	if err := os.Rename(left, left+".old"); err != nil {
		t.Fatal(err)
	}
	if err := p.Finish(); err != nil {
		t.Error(err)
	}
	if found, err := p.Look(); found != Taken || err != nil {
		t.Errorf("then %v is found, %v", found, err)
	}
}
