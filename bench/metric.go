package main

import (
	"fmt"
	"strings"
	"time"
)

// Metric names one figure of a turn. The names are those of report.json.
type Metric string

// Times are in seconds, memory and disk in bytes. CPU and Written are an operation's share.
const (
	Rate      Metric = "rate"       // operations a second
	P50       Metric = "p50"        // latency, the median
	P99       Metric = "p99"        // latency, the 99th percentile
	P999      Metric = "p99.9"      // latency, the 99.9th percentile
	CPU       Metric = "cpu"        // CPU time of all server processes
	ClientCPU Metric = "client_cpu" // CPU time of this process
	Peak      Metric = "peak"       // the most memory that was resident during the turn, of all server processes
	Rest      Metric = "rest"       // memory that is resident while nothing happens
	Written   Metric = "written"    // bytes that all server processes sent to the disk
	Amplified Metric = "amplified"  // bytes that were written to the disk for each byte of a key and its value
	Took      Metric = "took"       // the time that the one thing a scenario does has taken
	Stretch   Metric = "stretch"    // 99th percentile while disturbed, divided by that while not
)

// metric says how a figure is read.
type metric struct {
	name   Metric
	title  string
	more   bool // is better
	ours   bool // says something about the server, so that it can be behind
	whole  bool // is that of all rounds together: what a server puts off falls into one round of several
	format func(v float64) string
}

// metrics are all of them, in the order of the table's columns.
var metrics = []metric{
	{Rate, "ops/s", true, true, false, formatCount},
	{P50, "p50", false, true, false, formatSeconds},
	{P99, "p99", false, true, false, formatSeconds},
	{P999, "p99.9", false, true, false, formatSeconds},
	{CPU, "CPU/op", false, true, false, formatSeconds},
	{ClientCPU, "client CPU/op", false, false, false, formatSeconds},
	{Peak, "peak memory", false, true, false, formatBytes},
	{Rest, "at rest", false, true, false, formatBytes},
	{Written, "written/op", false, true, true, formatBytes},
	{Amplified, "write amplification", false, false, true, func(v float64) string { return fmt.Sprintf("%.2f×", v) }},
	{Took, "took", false, true, false, formatSeconds},
	{Stretch, "stretch", false, true, false, func(v float64) string { return fmt.Sprintf("%.2f×", v) }},
}

// metricOf finds a metric; it is nil for a name that does not exist.
func metricOf(name Metric) *metric {
	for i := range metrics {
		if metrics[i].name == name {
			return &metrics[i]
		}
	}
	return nil
}

// ahead says whether a ratio is at least as good as 1.
func (m *metric) ahead(ratio float64) bool {
	if m.more {
		return ratio >= 1
	}
	return ratio <= 1
}

// place is that in words.
func (m *metric) place(ratio float64) string {
	if m.ahead(ratio) {
		return "ahead"
	}
	return "behind"
}

// formatSeconds prints a time with three digits and its unit.
func formatSeconds(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if v >= u.size || u.name == "µs" {
			return threeDigits(v/u.size) + " " + u.name
		}
	}
	return ""
}

// formatBytes prints a number of bytes with three digits and its unit.
func formatBytes(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if v >= u.size {
			return threeDigits(v/u.size) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", v)
}

func threeDigits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// formatCount prints a number with commas; small ones with a decimal.
func formatCount(v float64) string {
	if v < 100 {
		return threeDigits(v)
	}
	s := fmt.Sprintf("%.0f", v)
	var out strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(c)
	}
	return out.String()
}

// formatClock prints a duration as minutes and seconds.
func formatClock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
