package metrics

import (
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapesMax bounds the scrapes that are answered at once; more are refused with 503.
const scrapesMax = 8

// rows are all metrics but those of the process and of Go.
var rows = slices.Concat(serverRows, diskRows, mvccRows, leaseRows, watchRows, networkRows, callRows, otherRows, ownRows)

// Handler serves the metrics read off the sources.
func Handler(s Sources, log *slog.Logger) http.Handler {
	registry := Registry(s)
	return promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: scrapesMax,
	}))
}

// Registry returns a registry of all metrics.
func Registry(s Sources) *prometheus.Registry {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newCollector(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// collector implements prometheus.Collector. It is immutable.
type collector struct {
	sources Sources
	descs   []*prometheus.Desc // of rows
}

func newCollector(s Sources) *collector {
	c := &collector{sources: s}
	for _, r := range rows {
		c.descs = append(c.descs, prometheus.NewDesc(r.name, r.help, r.labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	v := c.sources.look()
	for i, r := range rows {
		r.read(v, &putter{c.descs[i], r.kind, out})
	}
}
