package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/pprof/profile"
)

// pieceSeconds is how long one profile takes, so that a turn is profiled for its whole time without anybody knowing how long it will be.
const pieceSeconds = 2

// profiler collects what Ashlar's members spend CPU on during turns, for the compiler. Nothing is asked for any more once a piece could not be had:
// a profile of some of the lines would be taken for one of all.
type profiler struct {
	say    func(format string, args ...any) // is called during turns, of which nothing else is said, and by one goroutine at a time
	mu     sync.Mutex
	pieces []*profile.Profile
	err    error // all of them
}

// during profiles the members of a cluster while do runs.
func (p *profiler) during(ctx context.Context, c *cluster, do func() Turn) Turn {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls(), DisableKeepAlives: true}}
	done := make(chan struct{})
	var running sync.WaitGroup
	for _, m := range c.members {
		running.Go(func() {
			for p.whole() {
				select {
				case <-done:
					return
				default:
				}
				piece, err := takeProfile(ctx, client, c.url(m.client))
				if ctx.Err() != nil {
					return // the end of the run is no failure
				}
				p.add(piece, err)
			}
		})
	}
	t := do()
	close(done)
	running.Wait()
	return t
}

// whole tells whether there is every piece so far.
func (p *profiler) whole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil
}

// add keeps one piece, or why there is none, which it tells.
func (p *profiler) add(piece *profile.Profile, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.err == nil {
			p.say("there will be no profile: %v", err)
		}
		p.err = errors.Join(p.err, err)
		return
	}
	p.pieces = append(p.pieces, piece)
}

// takeProfile asks a member for a profile of the next seconds.
func takeProfile(ctx context.Context, client *http.Client, url string) (*profile.Profile, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", url, pieceSeconds), nil)
	if err != nil {
		return nil, fmt.Errorf("asking for a profile: %w", err)
	}
	answer, err := client.Do(ask)
	if err != nil {
		return nil, fmt.Errorf("asking for a profile: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking for a profile: %s", answer.Status)
	}
	piece, err := profile.Parse(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("reading a profile: %w", err)
	}
	return piece, nil
}

// save writes all pieces as one profile.
func (p *profiler) save(path string) error {
	if p.err != nil {
		return p.err
	}
	merged, err := forCompiler(p.pieces)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing the profile: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the profile: %w", err)
	}
	if err := errors.Join(merged.Write(f), f.Close()); err != nil {
		return fmt.Errorf("writing the profile: %w", err)
	}
	return nil
}

// forCompiler merges profiles and keeps what the compiler reads: which function called which from which of its lines, and how
// often. Neither addresses nor files, nor when and where it was: the result is the same wherever the sources lie.
func forCompiler(pieces []*profile.Profile) (*profile.Profile, error) {
	merged, err := profile.Merge(pieces)
	if err != nil {
		return nil, fmt.Errorf("merging profiles: %w", err)
	}
	merged.Mapping, merged.Comments, merged.TimeNanos, merged.DurationNanos = nil, nil, 0, 0
	for _, l := range merged.Location {
		l.Mapping = nil
	}
	for _, s := range merged.Sample {
		s.Label, s.NumLabel, s.NumUnit = nil, nil, nil
	}
	for _, f := range merged.Function {
		f.SystemName = ""
	}
	if err := merged.Aggregate(true, true, false, true, false, false); err != nil {
		return nil, fmt.Errorf("stripping the profile: %w", err)
	}
	return merged.Compact(), nil
}
