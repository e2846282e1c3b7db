package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// options are the flags of the command.
type options struct {
	sizes    Sizes
	only     *regexp.Regexp
	list     bool
	paths    map[string]string // of servers that are not built
	out      string
	data     string
	profile  string // a file; empty without one
	basePort int
}

// firstPort is where ports begin: below those that systems give to clients, and above those of well-known servers.
const firstPort = 21400

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	asked, err := asReader(ctx, os.Args[1:], os.Stdout)
	if !asked {
		err = command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		cancel()
		os.Exit(1)
	}
}

// parse reads the flags.
func parse(args []string, stderr io.Writer) (*options, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	quick := f.Bool("quick", false, "small sizes: five minutes at most, for a first look")
	only := f.String("only", "", "run the lines whose name matches a regular expression")
	list := f.Bool("list", false, "print the names of all lines and end")
	rounds := f.Int("rounds", 0, "how many turns each server gets in a line (default 5; quick 3)")
	budget := f.Duration("budget", 0, "when the run ends at the latest, building aside (default 3h; quick 4m25s)")
	scale := f.Float64("scale", 1, "multiply the amounts of work")
	ours := f.String("ashlar", "", "the program of Ashlar (default: built from this repository)")
	etcd := f.String("etcd", "", "the program of etcd (default: 3.7, built from its Go module)")
	etcd34 := f.String("etcd34", "", "the program of etcd 3.4, which takes part only if it is given")
	out := f.String("out", "results", "the directory for report.json, table.md, brief.md and a plot for each etcd")
	data := f.String("data", "", "a directory on the disk to measure, in which servers keep their files during the run (default: the system's temporary one)")
	into := f.String("profile", "", "run the lines on Ashlar alone, and write what its members spend CPU on to a file, for the compiler (-pgo)")
	port := f.Int("base-port", firstPort, "take ports from here on")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is not a flag", f.Arg(0))
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	o := &options{sizes: fullSizes, only: pattern, list: *list, out: *out, data: *data, profile: *into, basePort: *port,
		paths: map[string]string{oursName: *ours, "etcd37": *etcd, "etcd34": *etcd34}}
	if *quick {
		o.sizes = quickSizes
	}
	if *scale <= 0 || *scale > 10 || *rounds < 0 || *budget < 0 || *port < 1 || *port > 65535-portsMax {
		return nil, fmt.Errorf("--scale is above 0 and at most 10, --rounds and --budget are not negative, --base-port is from 1 to %d", 65535-portsMax)
	}
	if *scale != 1 {
		o.sizes = o.sizes.scaled(*scale)
	}
	if *rounds > 0 {
		o.sizes.Rounds, o.sizes.SlowMax = *rounds, min(*rounds, o.sizes.SlowMax)
	}
	if *budget > 0 {
		o.sizes.Budget = *budget
	}
	return o, nil
}

// chosen are the lines to run.
func (o *options) chosen() ([]Scenario, error) {
	var out []Scenario
	for _, s := range scenarios() {
		if o.only.MatchString(s.title()) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no line matches %q; --list prints their names", o.only)
	}
	return out, nil
}

// command is the whole program. The table goes to stdout, how far it is to stderr.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	lines, err := o.chosen()
	if err != nil {
		return err
	}
	if o.list {
		for _, s := range lines {
			fmt.Fprintln(stdout, s.title())
		}
		return nil
	}
	dir, err := os.MkdirTemp(o.data, "ashlar-bench-")
	if err != nil {
		return fmt.Errorf("making a directory for the run: %w", err)
	}
	defer os.RemoveAll(dir)
	report, err := o.measure(ctx, lines, dir, stderr)
	if report == nil {
		return err
	}
	report.Command = append([]string{"bench"}, args...)
	fmt.Fprint(stdout, report.table())
	fmt.Fprintf(stdout, "\n%s\n%s\n", report.summary(), report.Machine.String())
	for _, p := range report.Programs {
		fmt.Fprintf(stdout, "%s: %s\n", p.Name, p.Version)
	}
	for _, n := range report.Notes {
		fmt.Fprintln(stdout, "Note:", n)
	}
	if err := errors.Join(err, report.save(o.out)); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Written to", o.out)
	if _, _, failed, notRun := report.count(); failed > 0 || notRun > 0 {
		return fmt.Errorf("%d lines failed and %d were not run", failed, notRun)
	}
	return nil
}

// measure builds the servers and runs the lines. With a report it returns why there is no profile.
func (o *options) measure(ctx context.Context, lines []Scenario, dir string, progress io.Writer) (*Report, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(progress, "building the servers")
	programs, err := findPrograms(ctx, root, dir, o.paths, o.profile != "")
	if err != nil {
		return nil, err
	}
	certs, err := newCertificates(dir)
	if err != nil {
		return nil, err
	}
	trace, err := builtInTrace()
	if err != nil {
		return nil, err
	}
	allowed := allowedCores()
	r := &run{programs: programs, lines: lines, sizes: o.sizes, certs: certs, dir: dir, ports: &ports{next: o.basePort},
		allowed: allowed, divided: disjoint(allowed), trace: trace, progress: progress}
	if o.profile != "" {
		r.profiler = &profiler{say: r.say}
	}
	report := &Report{Started: time.Now(), Commit: commitOf(ctx, root), Machine: describe(dir, allowed, r.divided), Programs: programs, Sizes: o.sizes}
	if report.Machine.FileSystem == inMemory {
		report.Notes = append(report.Notes, "the servers' files are in memory, so nothing is written to a disk; choose one with --data")
	}
	if len(r.divided.client) == 0 {
		report.Notes = append(report.Notes, "servers and clients share all cores in every line: there are too few of them")
	}
	report.Lines = r.measure(ctx)
	report.Seconds = time.Since(r.begin).Seconds()
	report.Machine.LoadAfter = load3()
	if r.profiler != nil {
		if err := r.profiler.save(o.profile); err != nil {
			return report, err
		}
	}
	return report, nil
}

// save writes the report's files.
func (r *Report) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of the report: %w", err)
	}
	files := map[string]func(w io.Writer) error{
		"report.json": r.writeJSON,
		"table.md":    func(w io.Writer) error { _, err := io.WriteString(w, r.table()); return err },
		"brief.md":    func(w io.Writer) error { _, err := io.WriteString(w, r.brief()); return err },
	}
	for _, p := range r.Programs {
		if p.Name != oursName {
			files["plot-"+p.Name+".svg"] = func(w io.Writer) error { return r.writePlot(w, p.Name) }
		}
	}
	for name, write := range files {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}
