package metrics

import "github.com/ashlar-kv/ashlar/internal/measure"

// watchRows are what is told of watches.
var watchRows = []row{
	gauge("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.",
		func(v *view) float64 { return float64(v.watch.Streams) }),
	gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.",
		func(v *view) float64 { return float64(v.watch.Watchers) }),
	gauge("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.",
		func(v *view) float64 { return float64(v.watch.Behind) }),
	gauge("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.",
		func(v *view) float64 { return float64(v.watch.Pending) }),
	counter("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.",
		func(v *view) float64 { return float64(v.watch.Events) }),
	histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
		"The total duration in seconds of running through the send loop watch stream response all events.", seconds,
		func(v *view) *measure.Histogram { return v.Calls.WatchEvents }),
	histogram("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
		"The average duration in seconds of running through the send loop watch stream response, per event.", seconds,
		func(v *view) *measure.Histogram { return v.Calls.WatchEventsEach }),
	histogram("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
		"The total duration in seconds of running through the send loop control stream response.", seconds,
		func(v *view) *measure.Histogram { return v.Calls.WatchControls }),
	histogram("etcd_debugging_server_watch_send_loop_progress_duration_seconds",
		"The total duration in seconds of running through the progress loop control stream response.", seconds,
		func(v *view) *measure.Histogram { return v.Calls.WatchProgress }),
}
