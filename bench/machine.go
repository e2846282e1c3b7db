package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// inMemory is the name of a file system that has no disk: nothing is written to one, and syncing costs nothing.
const inMemory = "tmpfs"

// Machine describes where a run took place. What cannot be found out is empty.
type Machine struct {
	System      string `json:"system"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"` // that the run may use
	MemoryBytes int64  `json:"memory_bytes"`
	FileSystem  string `json:"file_system"`  // of the servers' directories
	LoadBefore  string `json:"load_before"`  // averages over 1, 5 and 15 minutes, when the run began
	LoadAfter   string `json:"load_after"`   // likewise, when it ended
	Go          string `json:"go"`           // of the client; the servers are built with the same unless they were given
	ServerCores []int  `json:"server_cores"` // of the lines with disjoint cores
	ClientCores []int  `json:"client_cores"` // likewise
}

// describe describes this machine; dir is where servers keep their data.
func describe(dir string, allowed []int, divided cores) Machine {
	m := Machine{System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), FileSystem: fileSystem(dir), LoadBefore: load3(),
		Go: runtime.Version(), ServerCores: divided.servers, ClientCores: divided.client}
	if len(allowed) > 0 {
		m.Cores = len(allowed)
	}
	if release := firstLine("/proc/sys/kernel/osrelease"); release != "" {
		m.System += ", kernel " + release
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = valueOf(string(text), "model name")
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		fmt.Sscan(valueOf(string(text), "MemTotal"), &m.MemoryBytes)
		m.MemoryBytes <<= 10
	}
	return m
}

// String is the description in one paragraph.
func (m *Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s memory, %s, files on %s, %s; load averages %s before and %s after",
		m.CPU, m.Cores, formatBytes(float64(m.MemoryBytes)), m.System, m.FileSystem, m.Go, m.LoadBefore, m.LoadAfter)
}

// load3 are the three load averages.
func load3() string {
	fields := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// firstLine is that of a file, or nothing.
func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// valueOf is what stands behind a name and a colon, in the first line that has it.
func valueOf(text, name string) string {
	for line := range strings.Lines(text) {
		if before, after, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return ""
}
