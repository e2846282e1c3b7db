package member

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// lines is a log that tests can wait on.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// announcing says when a ticker was made.
type announcing struct {
	*clock.Manual
	tickers chan struct{}
}

func (a announcing) NewTicker(d time.Duration) clock.Ticker {
	defer func() { a.tickers <- struct{}{} }()
	return a.Manual.NewTicker(d)
}

func TestTheFirstElectionIsHastenedOnceOthersAreThere(t *testing.T) {
	t.Parallel()
	log := make(lines, 100)
	cfg := configOf(t, vfs.NewCrashableMem(), notAlone+",third=http://127.0.0.1:2384")
	clk := announcing{clock.NewManual(time.Unix(1, 0)), make(chan struct{}, 10)}
	cfg.Clock, cfg.Logger, cfg.ElectionTickAdvance = clk, slog.New(slog.NewTextHandler(log, nil)), true
	asked := make(chan struct{})
	count := 0 // at the first look one of the others is connected, then both are
	cfg.ActiveSince = func(uint64) time.Time {
		asked <- struct{}{}
		if count++; count == 1 {
			return time.Time{}
		}
		return clk.Now()
	}
	m := open(t, cfg)
	defer stop(t, m)
	m.replay()
	done := make(chan struct{})
	go func() { m.hasten(); close(done) }()
	<-clk.tickers
	for range 2 {
		clk.Advance(hastenEvery)
		<-asked
		<-asked
	}
	<-done
	for {
		select {
		case line := <-log:
			if strings.Contains(line, "shortening the wait for an election") && strings.Contains(line, "ticks=8 others-connected=2") {
				return
			}
		default:
			t.Fatal("the election is not hastened")
		}
	}
}

func TestNobodyIsHastenedWithoutTheFlagOrWithALeader(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewCrashableMem(), notAlone)
	cfg.ActiveSince = func(uint64) time.Time { t.Error("it looks for others"); return time.Time{} }
	m := open(t, cfg)
	m.hasten()
	stop(t, m)

	cfg = configOf(t, vfs.NewCrashableMem(), alone)
	cfg.ElectionTickAdvance, cfg.ActiveSince = true, func(uint64) time.Time { return time.Now() }
	m = open(t, cfg)
	step(m) // it leads
	defer stop(t, m)
	m.hasten()
}
