package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// smallDisk is a filesystem in memory of a given size, mounted in a mount namespace of its own, so that nobody else sees
// it and nothing is left behind. It needs no rights where users may make namespaces.
type smallDisk struct {
	dir     string   // where the servers run by enter see it
	outside string   // where the test sees it
	enter   []string // a command that runs another one where the disk is mounted
}

// newSmallDisk mounts a disk, or skips the test where that is not allowed.
func newSmallDisk(t *testing.T, bytes int64) *smallDisk {
	t.Helper()
	dir := t.TempDir()
	unshare, enter := []string{"unshare", "--mount"}, []string{"--mount"}
	if os.Geteuid() != 0 {
		unshare, enter = append(unshare, "--user", "--map-root-user"), append(enter, "--user", "--preserve-credentials")
	}
	// The shell holds the namespace until its stdin ends: with the test, or with the test process.
	script := `mount -t tmpfs -o "size=$2" disk "$1" && echo mounted && read line`
	command := append(unshare, "sh", "-c", script, "sh", dir, strconv.FormatInt(bytes, 10))
	holder := exec.Command(command[0], command[1:]...)
	holder.SysProcAttr = process.DiesWithParent()
	var complaint strings.Builder
	holder.Stderr = &complaint
	stdin, err := holder.StdinPipe()
	noError(t, err)
	stdout, err := holder.StdoutPipe()
	noError(t, err)
	if err := holder.Start(); err != nil {
		t.Skipf("%s SKIPPED: no disk of a limited size can be mounted here: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		stdin.Close()
		holder.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "mounted\n" {
		stdin.Close()
		holder.Wait()
		t.Skipf("%s SKIPPED: no disk of a limited size can be mounted here: %v: %s", t.Name(), err, complaint.String())
	}
	pid := strconv.Itoa(holder.Process.Pid)
	return &smallDisk{
		dir:     dir,
		outside: filepath.Join("/proc", pid, "root", dir),
		enter:   append(append([]string{"nsenter", "--target", pid}, enter...), "--"),
	}
}

func (d *smallDisk) ballast() string { return filepath.Join(d.outside, "ballast") }

// fillUp leaves about free bytes to the server, as if somebody else had filled the disk.
func (d *smallDisk) fillUp(free int64) error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return fmt.Errorf("filling the disk: %w", err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for {
		var s syscall.Statfs_t
		if err := syscall.Statfs(d.outside, &s); err != nil {
			return fmt.Errorf("asking how full the disk is: %w", err)
		}
		if int64(s.Bfree)*int64(s.Bsize) <= free {
			return nil
		}
		if _, err := f.Write(chunk); err != nil {
			return fmt.Errorf("filling the disk: %w", err)
		}
	}
}

// makeRoom gives back what fillUp took.
func (d *smallDisk) makeRoom() error {
	return os.Remove(d.ballast())
}
