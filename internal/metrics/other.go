package metrics

import (
	"os"
	"syscall"
)

// otherRows are what belongs to the process, and to the proxy, which a member is not.
var otherRows = []row{
	gauge("os_fd_limit", "The file descriptor limit.", func(*view) float64 { return float64(FileLimit()) }),
	gauge("os_fd_used", "The number of used file descriptors.", func(*view) float64 { return float64(filesOpen()) }),
	gauge("etcd_grpc_proxy_cache_hits_total", "Total number of cache hits", zero),
	gauge("etcd_grpc_proxy_cache_keys_total", "Total number of keys/ranges cached", zero),
	gauge("etcd_grpc_proxy_cache_misses_total", "Total number of cache misses", zero),
	counter("etcd_grpc_proxy_events_coalescing_total", "Total number of events coalescing", zero),
	gauge("etcd_grpc_proxy_watchers_coalescing_total", "Total number of current watchers coalescing", zero),
}

// FileLimit returns how many files the process may have open, 0 when that is not known.
func FileLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}

// filesOpen returns how many files the process has open, 0 when that is not known.
func filesOpen() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries) - 1 // the directory itself
}
