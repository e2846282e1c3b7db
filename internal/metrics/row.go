package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// The units of histograms: what their sums and bounds are divided by.
const (
	seconds      = 1e9 // of durations in nanoseconds
	milliseconds = 1e6
	plain        = 1
)

// row is one metric.
type row struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	read       func(v *view, put *putter)
}

// value is a row without labels.
func value(kind prometheus.ValueType, name, help string, read func(v *view) float64) row {
	return row{name: name, help: help, kind: kind, read: func(v *view, put *putter) { put.value(read(v)) }}
}

func gauge(name, help string, read func(v *view) float64) row {
	return value(prometheus.GaugeValue, name, help, read)
}

func counter(name, help string, read func(v *view) float64) row {
	return value(prometheus.CounterValue, name, help, read)
}

// counted is a counter that is there already.
func counted(name, help string, of func(v *view) *measure.Counter) row {
	return counter(name, help, func(v *view) float64 { return float64(of(v).Value()) })
}

// histogram is a histogram without labels.
func histogram(name, help string, unit float64, of func(v *view) *measure.Histogram) row {
	return row{name: name, help: help, read: func(v *view, put *putter) { put.histogram(of(v), unit) }}
}

// labelled is a row with labels.
func labelled(kind prometheus.ValueType, name, help string, labels []string, read func(v *view, put *putter)) row {
	return row{name: name, help: help, kind: kind, labels: labels, read: read}
}

// never is a histogram of what Ashlar does not do.
func never(name, help string, unit float64, bounds []int64) row {
	empty := measure.NewHistogram(bounds)
	return histogram(name, help, unit, func(*view) *measure.Histogram { return empty })
}

// zero returns nothing, for what Ashlar does not have.
func zero(*view) float64 { return 0 }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// putter takes the values of one row.
type putter struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	out  chan<- prometheus.Metric
}

// value adds a series with the values of the row's labels.
func (p *putter) value(x float64, labels ...string) {
	p.out <- prometheus.MustNewConstMetric(p.desc, p.kind, x, labels...)
}

// histogram adds a histogram with the values of the row's labels.
func (p *putter) histogram(h *measure.Histogram, unit float64, labels ...string) {
	r := h.Read()
	buckets := make(map[float64]uint64, len(r.Bounds))
	for i, b := range r.Bounds {
		buckets[float64(b)/unit] = r.Cumulative[i]
	}
	p.out <- prometheus.MustNewConstHistogram(p.desc, r.Count, float64(r.Sum)/unit, buckets, labels...)
}

// times is histogram for durations, but adds nothing without an observation, as etcd does where there are labels.
func (p *putter) times(h *measure.Histogram, labels ...string) {
	if h.Read().Count > 0 {
		p.histogram(h, seconds, labels...)
	}
}
