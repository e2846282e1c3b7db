package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/server"
)

// demo is a cluster on this machine for trying things out: all members in one process, each with a data directory of its own. How
// many there are and where they listen is remembered in the directory, since members know each other by their addresses.
type demo struct {
	Members int `json:"members"`
	Port    int `json:"port"` // of the first member's clients; each member takes two

	dir string
}

const (
	demoFile  = "demo.json"
	demoUsage = `Usage:

  ashlar demo [flags]    start a cluster on this machine, for trying things out

  --dir DIR       where the members' data are kept (ashlar-demo)
  --members N     1, 3 or 5 (3)
  --port PORT     the first of the ports, two for each member (2379)

Started again in the same directory, the cluster has the members, ports and data that it had.
`
	// demoLook is how often is looked whether a member serves.
	demoLook = 50 * time.Millisecond
)

// runDemo runs such a cluster until it is told to stop, and returns the exit status.
func runDemo(p process, args []string) int {
	d, err := parseDemo(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(p.stdout, demoUsage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "ashlar demo: %v; see ashlar demo --help\n", err)
		return 2
	}
	if err := d.remember(); err != nil {
		fmt.Fprintf(p.stderr, "ashlar demo: %v\n", err)
		return 1
	}
	easeCollection(p.environ)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	defer handleSignals(slog.New(slog.DiscardHandler), stop)()
	if err := d.run(ctx, stop, p); err != nil {
		fmt.Fprintf(p.stderr, "ashlar demo: %s\n", oneLine(err))
		return 1
	}
	return 0
}

// parseDemo reads the command line. What it does not say is 0.
func parseDemo(args []string) (demo, error) {
	var d demo
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&d.dir, "dir", "ashlar-demo", "")
	flags.IntVar(&d.Members, "members", 0, "")
	flags.IntVar(&d.Port, "port", 0, "")
	if err := flags.Parse(args); err != nil {
		return d, err
	}
	if flags.NArg() > 0 {
		return d, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	return d, nil
}

// remember takes what the command line does not say from the directory, or the defaults, and keeps it there.
func (d *demo) remember() error {
	path := filepath.Join(d.dir, demoFile)
	before := demo{}
	switch text, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read what the cluster was: %w", err)
	default:
		if err := json.Unmarshal(text, &before); err != nil {
			return fmt.Errorf("read what the cluster was: %s: %w", path, err)
		}
	}
	was := before.Members != 0
	if was && (d.Members != 0 && d.Members != before.Members || d.Port != 0 && d.Port != before.Port) {
		return fmt.Errorf("%s holds a cluster of %d members from port %d on; start that one without --members and --port, "+
			"or choose another --dir", d.dir, before.Members, before.Port)
	}
	d.Members, d.Port = firstSet(d.Members, before.Members, 3), firstSet(d.Port, before.Port, 2379)
	if d.Members != 1 && d.Members != 3 && d.Members != 5 {
		return fmt.Errorf("--members is %d, it must be 1, 3 or 5", d.Members)
	}
	if last := d.Port + 2*d.Members - 1; d.Port < 1 || last > 65535 {
		return fmt.Errorf("there are no ports from %d to %d", d.Port, last)
	}
	if was {
		return nil
	}
	return d.keep(path)
}

func firstSet(given, before, otherwise int) int {
	for _, n := range []int{given, before} {
		if n != 0 {
			return n
		}
	}
	return otherwise
}

// keep writes the file whole or not at all.
func (d *demo) keep(path string) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("describe the cluster: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the cluster: %w", err)
	}
	err = os.WriteFile(path+".new", append(text, '\n'), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("keep what the cluster is: %w", err)
	}
	return nil
}

func (d *demo) client(i int) string { return fmt.Sprintf("127.0.0.1:%d", d.Port+2*i) }
func (d *demo) peer(i int) string   { return fmt.Sprintf("http://127.0.0.1:%d", d.Port+2*i+1) }

// args is the command line of one member.
func (d *demo) args(i int) []string {
	initial := make([]string, d.Members)
	for j := range initial {
		initial[j] = fmt.Sprintf("m%d=%s", j+1, d.peer(j))
	}
	name, client := fmt.Sprintf("m%d", i+1), "http://"+d.client(i)
	return []string{
		"--name", name, "--data-dir", filepath.Join(d.dir, name), "--log-outputs", filepath.Join(d.dir, name+".log"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", d.peer(i), "--initial-advertise-peer-urls", d.peer(i),
		"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", "ashlar-demo",
	}
}

// run runs all members until ctx ends or one of them fails, which ends the others too.
func (d *demo) run(ctx context.Context, stop func(), p process) error {
	errs := make([]error, d.Members)
	var members sync.WaitGroup
	for i := range d.Members {
		members.Go(func() {
			defer stop()
			if err := d.runMember(ctx, i, p); err != nil {
				errs[i] = fmt.Errorf("m%d: %w", i+1, err)
			}
		})
	}
	if d.waitServing(ctx) {
		fmt.Fprint(p.stdout, d.welcome(p.args[0]))
	}
	members.Wait()
	return errors.Join(errs...)
}

func (d *demo) runMember(ctx context.Context, i int, p process) error {
	cfg, err := config.Parse("ashlar", d.args(i), nil)
	if err != nil {
		return err
	}
	log, files, err := logging.Open(server.LogOptions(&cfg, p.stdout, p.stderr))
	if err != nil {
		return err
	}
	return errors.Join(server.Run(ctx, cfg, log), files.Close())
}

// waitServing waits until every member answers. It returns false when ctx ends before.
func (d *demo) waitServing(ctx context.Context) bool {
	ticker := time.NewTicker(demoLook)
	defer ticker.Stop()
	for i := 0; i < d.Members; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
		for i < d.Members && serves(ctx, d.client(i)) {
			i++
		}
	}
	return true
}

func serves(ctx context.Context, client string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+client+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return errors.Join(resp.Body.Close()) == nil && resp.StatusCode == http.StatusOK
}

// welcome is what a newcomer reads.
func (d *demo) welcome(program string) string {
	var b strings.Builder
	endpoints := make([]string, d.Members)
	members := "members"
	if d.Members == 1 {
		members = "member"
	}
	fmt.Fprintf(&b, "A cluster of %d %s is ready; data and logs are in %s.\n\n", d.Members, members, d.dir)
	for i := range endpoints {
		endpoints[i] = d.client(i)
		fmt.Fprintf(&b, "  m%d  http://%s\n", i+1, endpoints[i])
	}
	fmt.Fprintf(&b, "\nIn another terminal:\n\n  export ETCDCTL_ENDPOINTS=%s\n", strings.Join(endpoints, ","))
	for _, line := range []string{"put greeting hello", "get greeting", "endpoint status -w table"} {
		fmt.Fprintf(&b, "  %s ctl %s\n", program, line)
	}
	b.WriteString("\nCtrl-C ends it. Started again in the same directory, it has its data.\n")
	return b.String()
}
