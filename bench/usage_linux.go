package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the user and system time of a process, ended threads included. Its clock is that of clock_getcpuclockid(3), which
// counts nanoseconds; /proc/PID/stat has the same time in steps of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// residentBytes is what a process has in memory now, and peakBytes the most it had since resetPeak.
func residentBytes(pid int) (int64, error) {
	n, err := procField(pid, "status", "VmRSS:")
	return n << 10, err
}

func peakBytes(pid int) (int64, error) {
	n, err := procField(pid, "status", "VmHWM:")
	return n << 10, err
}

// resetPeak sets the peak to what is resident now.
func resetPeak(pid int) error {
	const peak = "5"
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(peak), 0); err != nil {
		return fmt.Errorf("resetting the peak memory of process %d: %w", pid, err)
	}
	return nil
}

// writtenBytes is what a process has caused to be sent to disks.
func writtenBytes(pid int) (int64, error) { return procField(pid, "io", "write_bytes:") }

// procField reads the number behind a name in a file of /proc/PID.
func procField(pid int, file, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading what a process uses: %w", err)
	}
	return fieldOf(text, path, name)
}

func fieldOf(text []byte, path, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) >= 2 && string(fields[0]) == name {
			n, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading %s of %s: %w", name, path, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("reading what a process uses: %s has no %s", path, name)
}

// startOn starts a command on the cores given (all, when there are none). It dies with this process. The thread's own cores
// are what a child inherits, so they are set around the start.
func startOn(cmd *exec.Cmd, cores []int) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if len(cores) == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("reading the cores of a thread: %w", err)
	}
	if err := setCores(0, cores); err != nil {
		return err
	}
	err := cmd.Start()
	if errBack := unix.SchedSetaffinity(0, &before); err == nil && errBack != nil {
		err = fmt.Errorf("going back to all cores: %w", errBack)
	}
	return err
}

func setCores(thread int, cores []int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(thread, &set); err != nil {
		return fmt.Errorf("choosing the cores %v: %w", cores, err)
	}
	return nil
}

// allowedCores are those that this process may use.
func allowedCores() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cores []int
	for c := range 8 * len(set) * 8 {
		if set.IsSet(c) {
			cores = append(cores, c)
		}
	}
	return cores
}

// stayOn moves all threads of this process to the cores given. Threads that start later inherit them.
func stayOn(cores []int) error {
	// A thread that starts while the list is read is found by the second reading.
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing the threads: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("listing the threads: %w", err)
			}
			if err := setCores(id, cores); err != nil {
				return err
			}
		}
	}
	runtime.GOMAXPROCS(len(cores))
	return nil
}

// fileSystem names the file system of a directory.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return ""
	}
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.TMPFS_MAGIC: inMemory}
	if name, ok := names[int64(s.Type)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", s.Type)
}
