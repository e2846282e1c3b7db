package ctl

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// program is the built binary, for what only a process of its own shows: signals, kills, terminals.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ashlar-ctl-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = process.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
