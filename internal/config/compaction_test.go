package config

import (
	"testing"
	"time"
)

func TestRetentionOfAutomaticCompaction(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode, retention string
		period          time.Duration
		revisions       int64
	}{
		"none is kept apart by default":     {mode: "periodic", retention: "0"},
		"empty is none":                     {mode: "revision", retention: ""},
		"a number is one of hours":          {mode: "periodic", retention: "3", period: 3 * time.Hour},
		"a time":                            {mode: "periodic", retention: "90m", period: 90 * time.Minute},
		"a short time":                      {mode: "periodic", retention: "1s", period: time.Second},
		"a number is one of revisions":      {mode: "revision", retention: "1000", revisions: 1000},
		"a time as a number of revisions":   {mode: "revision", retention: "1us", revisions: 1000},
		"a number of revisions of any size": {mode: "revision", retention: "9223372036854775807", revisions: 1<<63 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse("ashlar", []string{"--auto-compaction-mode=" + c.mode, "--auto-compaction-retention=" + c.retention}, nil)
			if err != nil || got.CompactPeriod != c.period || got.CompactRevisions != c.revisions {
				t.Errorf("got %v, %d, %v; want %v, %d", got.CompactPeriod, got.CompactRevisions, err, c.period, c.revisions)
			}
		})
	}
	for _, tooLong := range []string{"2562048", "9223372036854775808"} {
		if _, err := Parse("ashlar", []string{"--auto-compaction-retention=" + tooLong}, nil); err == nil {
			t.Errorf("%s hours are taken", tooLong)
		}
	}
}
