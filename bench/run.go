package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"time"
)

// run carries out the lines of a report.
type run struct {
	programs []Program
	lines    []Scenario // those of one group one after another
	sizes    Sizes
	certs    *certificates
	dir      string // servers have theirs below it
	ports    *ports
	allowed  []int // cores; empty where they cannot be chosen
	divided  cores
	trace    []traceLine
	profiler *profiler // nil without one
	progress io.Writer
	begin    time.Time
	prepared []time.Duration // how long each group took until its servers stood
}

// errBudget ends a run whose time is over.
var errBudget = errors.New("the time of the run is over")

// measure runs all lines, group by group. Lines for which no time is left have no servers.
func (r *run) measure(ctx context.Context) []Line {
	r.begin = time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, r.sizes.Budget, errBudget)
	defer cancel()
	out := make([]Line, len(r.lines))
	for i := range out {
		out[i] = newLine(&r.lines[i], nil, nil)
	}
	for from := 0; from < len(r.lines) && ctx.Err() == nil; {
		to := from + 1
		for to < len(r.lines) && r.lines[to].group() == r.lines[from].group() {
			to++
		}
		r.group(ctx, from, to, out)
		from = to
	}
	if ctx.Err() != nil {
		r.say("ended early: %v", context.Cause(ctx))
	}
	return out
}

// stand is a server on which the lines of a group run, or why it could not be prepared for them.
type stand struct {
	*rig
	failure error
}

// group runs the lines from:to, which share their servers.
func (r *run) group(ctx context.Context, from, to int, out []Line) {
	g := r.lines[from].group()
	var where cores
	if g.shape.Pinned && len(r.divided.client) > 0 {
		where = r.divided
		if err := stayOn(where.client); err != nil {
			r.say("the client shares cores with the servers: %v", err)
		}
		defer func() {
			if err := stayOn(r.allowed); err != nil {
				r.say("the client does not get all cores back: %v", err)
			}
		}()
	}
	begin := time.Now()
	var stands []stand
	defer func() {
		for _, s := range stands {
			if err := s.close(); err != nil {
				r.say("ending %s: %v", s.program.Name, err)
			}
		}
	}()
	for i, p := range r.programs {
		c, err := newCluster(p, g.shape, r.certs, filepath.Join(r.dir, fmt.Sprintf("%d-%s", from, p.Name)), r.ports, where.servers)
		if err != nil {
			c = &cluster{program: p} // without members
		}
		if r.profiles(p) {
			for _, m := range c.members {
				m.args = append(m.args, "--enable-pprof")
			}
		}
		s := stand{&rig{cluster: c, sizes: r.sizes, keys: r.sizes.keys(g.loaded), trace: r.trace}, err}
		stands = append(stands, s)
		if err == nil {
			r.say("%s, %s: starting, and loading %s keys", p.Name, g.shape, formatCount(float64(s.keys)))
			stands[i].failure = s.prepare(ctx)
		}
	}
	r.prepared = append(r.prepared, time.Since(begin))
	for i := from; i < to && ctx.Err() == nil; i++ {
		out[i] = newLine(&r.lines[i], r.programs, r.line(ctx, i, stands))
	}
}

// prepare starts the members and loads the keys.
func (r *rig) prepare(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	return r.load(ctx)
}

// line runs the rounds of a line, a turn of each server in each, and returns the turns by server. A round that the end of the run
// has cut short does not count.
func (r *run) line(ctx context.Context, i int, stands []stand) map[string][]Turn {
	s := &r.lines[i]
	turns := map[string][]Turn{}
	rounds := r.sizes.Rounds
	if s.Slow {
		rounds = min(rounds, r.sizes.SlowMax)
	}
	begin := time.Now()
	share := r.share(i)
	for n := range rounds {
		// Another round that would take more than the line's share is left out.
		if n > 0 && time.Since(begin)*time.Duration(n+1)/time.Duration(n) > share {
			break
		}
		round := make([]Turn, len(stands))
		for k, st := range stands {
			turn := func() Turn { return st.turn(ctx, s, n) }
			if r.profiles(st.program) {
				round[k] = r.profiler.during(ctx, st.cluster, turn)
			} else {
				round[k] = turn()
			}
			if ctx.Err() != nil {
				return turns
			}
			r.say("%d/%d  %s  round %d/%d  %-6s  %s", i+1, len(r.lines), s.title(), n+1, rounds, st.program.Name, round[k].brief())
		}
		for k, st := range stands {
			turns[st.program.Name] = append(turns[st.program.Name], round[k])
		}
	}
	return turns
}

// profiles says whether the turns of a server are profiled.
func (r *run) profiles(p Program) bool { return r.profiler != nil && p.Name == oursName }

// goalShare is how many times the time of another line one with goals may take: what a run judges should be a median of several rounds.
const goalShare = 3

// share is how long line i may take, so that every line gets one round: its part of the time that is left, less what it takes to
// start the servers of the groups that follow, as far as the groups before can tell.
func (r *run) share(i int) time.Duration {
	left := r.sizes.Budget - time.Since(r.begin)
	groups, parts := 0, 0
	for k := i; k < len(r.lines); k++ {
		if k > i && r.lines[k].group() != r.lines[k-1].group() {
			groups++
		}
		parts += partsOf(&r.lines[k])
	}
	var spent time.Duration
	for _, d := range r.prepared {
		spent += d
	}
	left -= spent / time.Duration(max(1, len(r.prepared))) * time.Duration(groups)
	return left / time.Duration(parts) * time.Duration(partsOf(&r.lines[i]))
}

// partsOf is the weight of a line where lines share the time of a run.
func partsOf(s *Scenario) int {
	if len(goalsOf(s)) > 0 {
		return goalShare
	}
	return 1
}

// turn runs a scenario once.
func (s *stand) turn(ctx context.Context, scenario *Scenario, round int) Turn {
	if s.failure != nil {
		return failedTurn(s.failure)
	}
	s.round, s.touched = round, s.keys*touchedBytes
	debug.FreeOSMemory() // the first turn of a round would otherwise be the one that pays for the memory of the clients
	return scenario.run(ctx, s.rig)
}

// say tells how far the run is.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.progress, "%s  %s\n", formatClock(time.Since(r.begin)), fmt.Sprintf(format, args...))
}
