package member

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// TestWhenHistoryIsCompacted drives retentions by hand. The revision is 1 at the start and rises by one with every call of
// due. want is "time revision" of each compaction.
func TestWhenHistoryIsCompacted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keep    AutoCompaction
		until   time.Duration
		follows func(at time.Duration) bool // not the leader then
		fails   func(at time.Duration) bool
		want    []string
	}{
		"an hour is noted every 6 minutes, first compacted after an hour, then every hour": {
			keep: AutoCompaction{Period: time.Hour}, until: 4 * time.Hour,
			want: []string{"1h0m0s 1", "2h0m0s 10", "3h0m0s 20", "4h0m0s 30"},
		},
		"longer times are compacted every hour after the first time": {
			keep: AutoCompaction{Period: 2 * time.Hour}, until: 5 * time.Hour,
			want: []string{"2h0m0s 1", "3h0m0s 10", "4h0m0s 20", "5h0m0s 30"},
		},
		"shorter times are compacted as often as they are long": {
			keep: AutoCompaction{Period: 5 * time.Minute}, until: 15 * time.Minute,
			want: []string{"5m0s 1", "10m0s 10", "15m0s 20"},
		},
		"a second": {
			keep: AutoCompaction{Period: time.Second}, until: 3 * time.Second,
			want: []string{"1s 1", "2s 10", "3s 20"},
		},
		"next to nothing costs a thousand looks a second": {
			keep: AutoCompaction{Period: time.Nanosecond}, until: 3 * time.Millisecond,
			want: []string{"1ms 1", "2ms 2", "3ms 3"},
		},
		"a follower notes revisions and compacts nothing": {
			keep: AutoCompaction{Period: time.Hour}, until: 3 * time.Hour,
			follows: func(at time.Duration) bool { return at < 90*time.Minute },
			want:    []string{"1h30m0s 5", "2h30m0s 15"},
		},
		"what fails is tried again at the next look": {
			keep: AutoCompaction{Period: time.Hour}, until: 2*time.Hour + 30*time.Minute,
			fails: func(at time.Duration) bool { return at < 75*time.Minute },
			want:  []string{"1h0m0s 1 failed", "1h6m0s 1 failed", "1h12m0s 2 failed", "1h18m0s 3", "2h18m0s 13"},
		},
		"revisions are looked at every five minutes": {
			keep: AutoCompaction{Revisions: 3}, until: 30 * time.Minute,
			want: []string{"15m0s 1", "20m0s 2", "25m0s 3", "30m0s 4"},
		},
		"revisions of a follower": {
			keep: AutoCompaction{Revisions: 3}, until: 30 * time.Minute,
			follows: func(at time.Duration) bool { return at < 25*time.Minute },
			want:    []string{"25m0s 3", "30m0s 4"},
		},
		"revisions after a failure": {
			keep: AutoCompaction{Revisions: 3}, until: 20 * time.Minute,
			fails: func(at time.Duration) bool { return at < 20*time.Minute },
			want:  []string{"15m0s 1 failed", "20m0s 2"},
		},
		"nothing is asked for": {until: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start, current := time.Unix(1_000_000, 0), int64(1)
			keep := newRetention(c.keep, start, current)
			var got []string
			for at := time.Duration(0); keep != nil && at < c.until; {
				at += keep.every()
				now := start.Add(at)
				current++
				rev, ok := keep.due(now, current, c.follows == nil || !c.follows(at))
				switch {
				case !ok:
				case c.fails != nil && c.fails(at):
					got = append(got, fmt.Sprint(at, " ", rev, " failed"))
				default:
					got = append(got, fmt.Sprint(at, " ", rev))
					keep.done(now, rev)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("compacted at\n%q, want\n%q", got, c.want)
			}
		})
	}
}

func TestAStoreThatDoesNotChangeIsCompactedOnce(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]AutoCompaction{"by time": {Period: time.Hour}, "by revisions": {Revisions: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, n := time.Unix(1_000_000, 0), 0
			keep := newRetention(a, now, 7)
			for range 100 {
				now = now.Add(keep.every())
				if rev, ok := keep.due(now, 7, true); ok {
					keep.done(now, rev)
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d compactions, want 1", n)
			}
		})
	}
}

// byHand is a clock one of whose tickers is moved by hand: a tick is taken before the next one can come.
type byHand struct {
	*clock.Manual
	every time.Duration // of that ticker
	ticks chan time.Time
}

func (c byHand) NewTicker(d time.Duration) clock.Ticker {
	if d == c.every {
		return c
	}
	return c.Manual.NewTicker(d)
}

func (c byHand) C() <-chan time.Time { return c.ticks }
func (c byHand) Stop()               {}
func (c byHand) Reset(time.Duration) {}

func TestALeaderCompactsByItself(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		keep  AutoCompaction
		every time.Duration // it looks
		looks int           // until it compacts
		want  int64
	}{
		"by time":      {AutoCompaction{Period: time.Hour}, time.Hour / samplesPerCompaction, samplesPerCompaction, 1}, // when the time began
		"by revisions": {AutoCompaction{Revisions: 5}, revisionsEvery, 1, 11 - 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := byHand{clock.NewManual(time.Unix(1_000_000, 0)), x.every, make(chan time.Time)}
			log := make(lines, 1000)
			cfg := configOf(t, vfs.NewMem(), alone)
			cfg.Clock, cfg.AutoCompaction, cfg.Logger = c, x.keep, slog.New(slog.NewTextHandler(log, nil))
			m := start(t, cfg)
			defer stop(t, m)
			for !strings.Contains(<-log, "compacting automatically") { // the revision of now is noted
			}
			for i := range 10 {
				put(t, m, "k", fmt.Sprint(i))
			}
			now := c.Now()
			for range x.looks {
				if got := m.Store().CompactRevision(); got > 0 {
					t.Errorf("compacted to %d too early", got)
				}
				now = now.Add(x.every)
				c.ticks <- now
			}
			c.ticks <- now // the look before has ended
			if got := m.Store().CompactRevision(); got != x.want {
				t.Errorf("compacted to %d, want %d", got, x.want)
			}
		})
	}
}

// oneTo is a retention that is due once, and keeps when it was told that it is done.
type oneTo struct {
	rev int64
	at  time.Time
}

func (o *oneTo) every() time.Duration                            { return time.Hour }
func (o *oneTo) due(time.Time, int64, bool) (rev int64, ok bool) { return o.rev, true }
func (o *oneTo) done(now time.Time, _ int64)                     { o.at = now }

// TestTimeBetweenCompactionsIsThatOfTheLooks: what a compaction takes, or by how much a look comes late or early, puts none off by a look.
func TestTimeBetweenCompactionsIsThatOfTheLooks(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	put(t, m, "k", "v")
	look, keep := time.Unix(1_000_000, 0), &oneTo{rev: 2}
	if m.autoCompactOnce(keep, look); !keep.at.Equal(look) || m.Store().CompactRevision() != 2 {
		t.Errorf("compacted to %d, done at %s; the look was at %s", m.Store().CompactRevision(), keep.at, look)
	}

	begin := time.Unix(1_000_000, 0)
	hour := newRetention(AutoCompaction{Period: time.Hour}, begin, 1)
	var got []int
	for i := 1; i <= 4*samplesPerCompaction; i++ {
		late := time.Duration(i%3) * 50 * time.Millisecond // before the next one is in time again
		now := begin.Add(time.Duration(i)*hour.every() + late)
		if rev, ok := hour.due(now, int64(i+1), true); ok {
			got = append(got, i)
			hour.done(now, rev)
		}
	}
	if want := []int{10, 20, 30, 40}; !slices.Equal(got, want) {
		t.Errorf("compacted at the looks %d, want %d", got, want)
	}
}
