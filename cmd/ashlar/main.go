// Command ashlar is the server, the client and the offline tool in one program.
//
// `ashlar` and `ashlar server` run a member, `ashlar demo` several for trying things out; `ashlar version` prints the
// version. Called under the name etcd (a link) it is the server with etcd's defaults. `ashlar ctl`, and the name
// etcdctl, is the client; `ashlar util`, and the name etcdutl, is the offline tool. `ashlar gateway` and
// `ashlar grpc-proxy` stand in front of a cluster.
//
// This package only picks what to run and turns its outcome into an exit status: 0 after a graceful stop, 2 for
// a command line that cannot be read, 1 for every other failure, 128 and its number for a second signal; the client
// has statuses of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/ctl"
	"github.com/ashlar-kv/ashlar/internal/util"
	"github.com/ashlar-kv/ashlar/internal/version"
)

func main() {
	os.Exit(run(process{args: os.Args, environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}))
}

// process is what the operating system hands to a program. Tests run one without starting it.
type process struct {
	args           []string // with the program's own name first
	environ        []string
	stdin          io.Reader // nil: empty
	stdout, stderr io.Writer
}

// run picks what was asked for, does it, and returns the exit status.
func run(p process) int {
	name := strings.TrimSuffix(filepath.Base(p.args[0]), ".exe")
	args := p.args[1:]
	switch name {
	case "etcd":
		return serve(p, "etcd", args)
	case "etcdctl":
		return client(p, "etcdctl", args)
	case "etcdutl":
		return offline(p, "etcdutl", args)
	}
	if len(args) == 0 {
		return serve(p, "ashlar", args)
	}
	switch args[0] {
	case "server":
		return serve(p, "ashlar", args[1:])
	case "demo":
		return runDemo(p, args[1:])
	case "version":
		fmt.Fprint(p.stdout, version.Banner())
		return 0
	case "ctl":
		return client(p, "ashlar ctl", args[1:])
	case "util":
		return offline(p, "ashlar util", args[1:])
	case "__complete", "__completeNoDesc": // what a shell's completion script asks: the words after the program's name
		if len(args) > 1 && args[1] == "ctl" {
			return client(p, "ashlar ctl", append([]string{args[0]}, args[2:]...))
		}
		if len(args) > 1 && args[1] == "util" {
			return offline(p, "ashlar util", append([]string{args[0]}, args[2:]...))
		}
	}
	return serve(p, "ashlar", args)
}

// client runs a command of the client. A signal ends it at once, unless the command itself waits for one.
func client(p process, program string, args []string) int {
	return ctl.Run(context.Background(), ctl.Process{Program: program, Args: args, Environ: p.environ,
		Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr})
}

// offline runs a command of the offline tool. A signal ends it at once: what it writes is complete or is refused later.
func offline(p process, program string, args []string) int {
	return util.Run(context.Background(), util.Process{Program: program, Args: args, Stdout: p.stdout, Stderr: p.stderr})
}
