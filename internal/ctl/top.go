package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/term"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// topFlags are the flags of top.
type topFlags struct {
	once     bool
	interval time.Duration
	rows     int
}

func (s *session) topCommand() *cobra.Command {
	var f topFlags
	c := &cobra.Command{Use: "top [options]", Short: "Shows what a cluster is busy with, live",
		Long: "Shows members, the rates and times of requests, the prefixes that cost most, watchers and leases, from the members'\n" +
			"metrics, and again after each --interval; q ends it. --once, or a pipe, prints one interval as text."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		switch {
		case len(args) > 0:
			return badArguments("top needs no argument")
		case f.interval < 100*time.Millisecond:
			return badArguments("--interval is at least 100ms")
		case f.rows < 1:
			return badArguments("--rows is at least 1")
		}
		if err := s.forms("simple"); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return s.top(ctx, &f)
	})
	set := c.Flags()
	set.BoolVar(&f.once, "once", false, "print one interval as text and end")
	set.DurationVar(&f.interval, "interval", 2*time.Second, "time between two looks")
	set.IntVar(&f.rows, "rows", 10, "how many requests and prefixes are shown")
	return c
}

func (s *session) top(ctx context.Context, f *topFlags) error {
	w, err := s.newTopWatch(ctx)
	if err != nil {
		return err
	}
	defer w.scraper.close()
	if !f.once && progress.IsTerminal(s.Stdout) && progress.IsTerminal(s.Stdin) {
		return s.topLive(ctx, f, w)
	}
	w.look(ctx)
	if err := pause(ctx, f.interval); err != nil {
		return err
	}
	w.look(ctx)
	w.view(f.rows, s.paint()).write(s.Stdout)
	if w.answered() == 0 {
		return errors.New("no member tells its metrics")
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// topLive draws on the other screen of the terminal until q is typed.
func (s *session) topLive(ctx context.Context, f *topFlags, w *topWatch) error {
	in, out := s.Stdin.(*os.File), s.Stdout.(*os.File)
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("preparing the terminal: %w", err)
	}
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	defer func() {
		fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
		_ = term.Restore(int(in.Fd()), before)
	}()
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	go func() { // ends with what is typed; a program that ends otherwise takes it along
		readQuit(in)
		quit()
	}()
	for {
		w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			width, height = 80, 24
		}
		fmt.Fprint(out, screen(w.view(f.rows, s.paint()), width, height))
		if pause(ctx, f.interval) != nil {
			return nil
		}
	}
}

// readQuit returns when q, Ctrl-C or Ctrl-D was typed, or nothing more can be.
func readQuit(in io.Reader) {
	var b [1]byte
	for {
		if n, err := in.Read(b[:]); err != nil || (n == 1 && strings.ContainsAny(string(b[:]), "qQ\x03\x04")) {
			return
		}
	}
}

// topWatch looks at the members again and again and keeps the last two looks.
type topWatch struct {
	scraper   *scraper
	names     map[string]string // of members, by endpoint
	endpoints []string
	now, last map[string]*scraped
	failed    map[string]error
}

// topMembersMax bounds how many members are looked at; a cluster has fewer.
const topMembersMax = 64

// newTopWatch finds the members; when the cluster does not tell them, the endpoints have to do.
func (s *session) newTopWatch(ctx context.Context) (*topWatch, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	spec, err := s.clientSpec()
	if err != nil {
		return nil, err
	}
	w := &topWatch{names: map[string]string{}, endpoints: c.Endpoints()}
	if w.scraper, err = s.scraper(spec); err != nil {
		return nil, err
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	r, err := c.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return w, nil
	}
	w.endpoints = nil
	for _, m := range r.Members {
		if urls := m.GetClientURLs(); len(urls) > 0 && len(w.endpoints) < topMembersMax {
			w.endpoints = append(w.endpoints, urls[0])
			w.names[urls[0]] = shown([]byte(m.GetName()))
		}
	}
	return w, nil
}

// look reads the metrics of all members at once.
func (w *topWatch) look(ctx context.Context) {
	found := make([]*scraped, len(w.endpoints))
	failed := make([]error, len(w.endpoints))
	var wg sync.WaitGroup
	for i, e := range w.endpoints {
		wg.Go(func() { found[i], failed[i] = w.scraper.scrape(ctx, e, topMetrics) })
	}
	wg.Wait()
	w.last, w.now, w.failed = w.now, map[string]*scraped{}, map[string]error{}
	for i, e := range w.endpoints {
		if failed[i] != nil {
			w.failed[e] = failed[i]
		} else {
			w.now[e] = found[i]
		}
	}
}

func (w *topWatch) answered() int { return len(w.now) }
