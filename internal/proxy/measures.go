package proxy

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// measures count what a proxy does.
type measures struct {
	hits, misses, keys, coalesced atomic.Int64
	events                        measure.Counter
}

// registry returns the metrics, with etcd's names.
func (m *measures) registry() *prometheus.Registry {
	r := prometheus.NewPedanticRegistry()
	gauge := func(name, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "etcd_grpc_proxy_" + name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	gauge("cache_hits_total", "Total number of cache hits", &m.hits)
	gauge("cache_misses_total", "Total number of cache misses", &m.misses)
	gauge("cache_keys_total", "Total number of keys/ranges cached", &m.keys)
	gauge("watchers_coalescing_total", "Total number of current watchers coalescing", &m.coalesced)
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "etcd_grpc_proxy_events_coalescing_total",
		Help: "Total number of events coalescing"}, func() float64 { return float64(m.events.Value()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
