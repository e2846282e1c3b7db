package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// The values of --auto-compaction-mode.
const (
	compactPeriodic = "periodic"
	compactRevision = "revision"
)

// electionTimeoutMax is etcd's upper bound of the election timeout; it is exclusive.
const electionTimeoutMax = 50 * time.Second

// raftTimeoutMin is what --raft-read-timeout and --raft-write-timeout are raised to: members count on it of each other.
const raftTimeoutMin = 5 * time.Second

// requestBytesAdvised is the request limit above which a warning is logged, as etcd does.
const requestBytesAdvised = 10 << 20

// Validate checks the configuration with etcd's rules and messages and fills in what depends on other fields:
// DataDir and InitialCluster when they are empty, LogRotation, and the Notices. It touches no file.
// Parse has called it; a caller that changes fields of Default calls it itself.
func (c *Config) Validate() error {
	if err := c.checkLogging(); err != nil {
		return err
	}
	if err := c.checkAudit(); err != nil {
		return err
	}
	if err := c.checkURLs(); err != nil {
		return err
	}
	if err := c.checkDiscovery(); err != nil {
		return err
	}
	if err := c.checkTimes(); err != nil {
		return err
	}
	if c.Gate(GateLeaseCheckpointPersist) && !c.Gate(GateLeaseCheckpoint) {
		return fmt.Errorf("enabling feature gate %s requires enabling feature gate %s", GateLeaseCheckpointPersist, GateLeaseCheckpoint)
	}
	if err := c.checkTracing(); err != nil {
		return err
	}
	if err := c.parseCompaction(); err != nil {
		return err
	}
	if err := c.parseTLS(); err != nil {
		return err
	}
	c.finish()
	if _, err := c.InitialMembers(); err != nil {
		return err
	}
	c.advise()
	return nil
}

// finish fills in what depends on other fields. It may run more than once.
func (c *Config) finish() {
	if c.SnapshotCount == 0 {
		c.SnapshotCount = 10000
	}
	if c.DataDir == "" && c.Program != "" {
		c.DataDir = c.Name + "." + c.Program
	}
	if c.InitialCluster == "" && !c.Discovery.Wanted() {
		c.InitialCluster = c.initialClusterDefault()
	}
}

// parseCompaction fills in CompactPeriod or CompactRevisions. A whole number is one of hours or of revisions. A time in
// place of a number of revisions counts as its nanoseconds, as in etcd.
func (c *Config) parseCompaction() error {
	unit := time.Hour
	switch c.compactionMode {
	case compactPeriodic:
	case compactRevision:
		unit = 1
	case "":
		return errors.New("undefined auto-compaction-mode")
	default:
		return fmt.Errorf("unknown auto-compaction-mode %q", c.compactionMode)
	}
	c.CompactPeriod, c.CompactRevisions = 0, 0
	text := strings.TrimSpace(c.compactionRetention)
	if text == "" {
		return nil
	}
	keep, err := time.ParseDuration(text)
	if n, nerr := strconv.ParseInt(text, 10, 64); nerr == nil && n >= 0 {
		keep, err = time.Duration(n)*unit, nil
		if n > math.MaxInt64/int64(unit) {
			err = errors.New("value out of range")
		}
	}
	if err == nil && keep < 0 {
		err = errors.New("it is negative")
	}
	if err != nil {
		return fmt.Errorf("error parsing CompactionRetention: %w", err)
	}
	if c.compactionMode == compactRevision {
		c.CompactRevisions = int64(keep)
	} else {
		c.CompactPeriod = keep
	}
	return nil
}

func (c *Config) checkURLs() error {
	for _, us := range []URLs{c.ListenPeerURLs, c.ListenClientURLs, c.ListenClientHTTPURLs, c.ListenMetricsURLs} {
		if err := checkListen(us); err != nil {
			return err
		}
	}
	if err := checkAdvertise(c.AdvertisePeerURLs); err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls %q must be \"host:port\" (%w)", c.AdvertisePeerURLs, err)
	}
	if err := checkAdvertise(c.AdvertiseClientURLs); err != nil {
		return fmt.Errorf("--advertise-client-urls %q must be in the format \"host:port\", \"unix:/path/to/socket\" "+
			"or \"unixs:/path/to/socket\" (%w)", c.AdvertiseClientURLs, err)
	}
	return nil
}

func (c *Config) checkTimes() error {
	hb, el := c.HeartbeatInterval.Milliseconds(), c.ElectionTimeout.Milliseconds()
	switch {
	case c.CompactHashCheckTime <= 0:
		return fmt.Errorf("--compact-hash-check-time must be >0 (set to %s)", c.CompactHashCheckTime)
	case c.CorruptCheckTime < 0: // etcd crashes
		return fmt.Errorf("--corrupt-check-time must be >=0 (set to %s)", c.CorruptCheckTime)
	case hb == 0:
		return fmt.Errorf("--heartbeat-interval must be >0 (set to %dms)", hb)
	case el == 0:
		return fmt.Errorf("--election-timeout must be >0 (set to %dms)", el)
	case 5*hb > el:
		return fmt.Errorf("--election-timeout[%dms] should be at least as 5 times as --heartbeat-interval[%dms]", el, hb)
	case c.ElectionTimeout > electionTimeoutMax:
		return fmt.Errorf("--election-timeout[%dms] is too long, and should be set less than %dms", el,
			electionTimeoutMax.Milliseconds())
	}
	return nil
}

// advise adds notices about values that are allowed but probably not meant.
func (c *Config) advise() {
	warn := func(message string, attrs ...slog.Attr) {
		c.Notices = append(c.Notices, Notice{Level: slog.LevelWarn, Message: message, Attrs: attrs})
	}
	if c.Name == DefaultName {
		warn("it is better to give each member a name of its own with --name", slog.String("name", c.Name))
	}
	if c.MaxRequestBytes > requestBytesAdvised {
		warn("exceeded recommended request limit", slog.Uint64("max-request-bytes", uint64(c.MaxRequestBytes)),
			slog.Int("recommended-request-bytes", requestBytesAdvised))
	}
	for _, t := range []struct {
		name  string
		value *time.Duration
	}{{"raft-read-timeout", &c.RaftReadTimeout}, {"raft-write-timeout", &c.RaftWriteTimeout}} {
		if *t.value < raftTimeoutMin {
			*t.value = raftTimeoutMin
			c.Notices = append(c.Notices, Notice{Level: slog.LevelInfo, Message: t.name + " increased to minimum value: " + raftTimeoutMin.String()})
		}
	}
	c.adviseTLS()
}
