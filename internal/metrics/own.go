package metrics

import (
	"strconv"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// prefixesMax is how many prefixes of keys are told.
const prefixesMax = 10

// ofState is a metric of the database that is the state.
func ofState(kind string, name, help string, read func(storage.Metrics) float64) row {
	k := g
	if kind == "counter" {
		k = c
	}
	return labelled(k, name, help, []string{"store"}, func(v *view, put *putter) { put.value(read(v.state), "state") })
}

// ofBoth is a metric of the state and the log.
func ofBoth(name, help string, state func(storage.Metrics) uint64, log func(raftlog.Metrics) uint64) row {
	return labelled(g, name, help, []string{"store"}, func(v *view, put *putter) {
		put.value(float64(state(v.state)), "state")
		put.value(float64(log(v.log)), "log")
	})
}

// eachLevel is a metric of the levels of the state.
func eachLevel(name, help string, read func(storage.Level) float64) row {
	return labelled(g, name, help, []string{"store", "level"}, func(v *view, put *putter) {
		for i := range v.state.Levels {
			put.value(read(v.state.Levels[i]), "state", strconv.Itoa(i))
		}
	})
}

// ownRows are those that etcd does not have.
var ownRows = []row{
	gauge("ashlar_apply_queue_entries", "Entries of the log that are committed and not applied yet.",
		func(v *view) float64 { return float64(v.status.Committed - min(v.status.Applied, v.status.Committed)) }),
	gauge("ashlar_state_untrusted", "1 while this member's state is known to differ from the majority's and is being rebuilt.",
		func(v *view) float64 { return flag(v.Member.Trusted() != nil) }),
	histogram("ashlar_leader_election_duration_seconds",
		"How long this member knew no leader: from the loss of one, or the start, to the next.", seconds,
		func(v *view) *measure.Histogram { return v.node.Elections }),
	labelled(g, "ashlar_follower_lag_entries", "Entries of this leader's log that another member is not known to have.",
		[]string{"To"}, func(v *view, put *putter) {
			for _, x := range v.lags {
				put.value(float64(x.entries), hex(x.id))
			}
		}),
	labelled(g, "ashlar_watch_stream_lag_revisions",
		"How many revisions the watch streams are behind that catch up, the greatest first; those beyond the tenth are left out.",
		[]string{"rank"}, func(v *view, put *putter) {
			if len(v.watch.Lags) == 0 {
				put.value(0, "1") // so that there is always one
			}
			for i, n := range v.watch.Lags {
				put.value(float64(n), strconv.Itoa(i+1))
			}
		}),
	gauge("ashlar_watch_inbox_events", "Events that wait to be distributed to watchers.",
		func(v *view) float64 { return float64(v.watch.Inbox) }),
	counter("ashlar_watch_events_encoded_total", "Events encoded for watchers; each is encoded once for all of them.",
		func(v *view) float64 { return float64(v.watch.Encoded) }),
	ofBoth("ashlar_storage_disk_bytes", "What the files of the state and of the log take.",
		func(m storage.Metrics) uint64 { return m.DiskBytes }, func(m raftlog.Metrics) uint64 { return m.DiskBytes }),
	ofBoth("ashlar_storage_memtable_bytes", "What of the state is in memory and not in tables, and what of the log is in memory.",
		func(m storage.Metrics) uint64 { return m.MemTableBytes }, func(m raftlog.Metrics) uint64 { return m.MemoryBytes }),
	ofState("gauge", "ashlar_storage_memtable_kept_bytes", "Memtables that are written to tables and not given back: they are read, or kept for the next one.",
		func(m storage.Metrics) float64 { return float64(m.KeptBytes) }),
	gauge("ashlar_log_segments", "Files of the log.", func(v *view) float64 { return float64(v.log.Segments) }),
	ofState("gauge", "ashlar_storage_cache_bytes", "What the block cache of a database holds.",
		func(m storage.Metrics) float64 { return float64(m.CacheBytes) }),
	ofState("gauge", "ashlar_storage_cache_max_bytes", "What the block cache of a database may hold at present, memtables included.",
		func(m storage.Metrics) float64 { return float64(m.CacheMaxBytes) }),
	ofState("counter", "ashlar_storage_cache_hits_total", "Blocks found in the cache.",
		func(m storage.Metrics) float64 { return float64(m.CacheHits) }),
	ofState("counter", "ashlar_storage_cache_misses_total", "Blocks not found in the cache.",
		func(m storage.Metrics) float64 { return float64(m.CacheMisses) }),
	ofState("counter", "ashlar_storage_flushes_total", "Memtables written to tables.",
		func(m storage.Metrics) float64 { return float64(m.Flushes) }),
	ofState("counter", "ashlar_storage_compactions_total", "Compactions of tables that ended.",
		func(m storage.Metrics) float64 { return float64(m.Compactions) }),
	ofState("counter", "ashlar_storage_flushed_bytes_total", "Bytes of tables that memtables were written to.",
		func(m storage.Metrics) float64 { return float64(m.FlushedBytes) }),
	ofState("counter", "ashlar_storage_compacted_bytes_total", "Bytes of tables that compactions wrote.",
		func(m storage.Metrics) float64 { return float64(m.CompactedBytes) }),
	ofState("gauge", "ashlar_storage_compactions_running", "Compactions of tables that run.",
		func(m storage.Metrics) float64 { return float64(m.CompactionsRunning) }),
	ofState("gauge", "ashlar_storage_compaction_debt_bytes", "What compactions of tables have yet to rewrite.",
		func(m storage.Metrics) float64 { return float64(m.DebtBytes) }),
	ofState("gauge", "ashlar_storage_read_amplification", "How many places a read may have to look into.",
		func(m storage.Metrics) float64 { return float64(m.ReadAmp) }),
	eachLevel("ashlar_storage_level_tables", "Tables of a level.", func(l storage.Level) float64 { return float64(l.Tables) }),
	eachLevel("ashlar_storage_level_bytes", "Bytes of a level's tables.", func(l storage.Level) float64 { return float64(l.Bytes) }),
	counted("ashlar_storage_write_stalls_total", "How often writes to the state had to wait for flushes or compactions.",
		func(v *view) *measure.Counter { return &v.counts.State.Stalls }),
	labelled(g, "ashlar_request_prefix_requests", "Requests under the prefixes of keys that cost most bytes, estimated from one in 64.",
		[]string{"prefix"}, prefixes(func(x *measure.Cost) uint64 { return x.Requests })),
	labelled(g, "ashlar_request_prefix_bytes", "Bytes of requests and of answers to ranges under the prefixes that cost most, estimated from one in 64.",
		[]string{"prefix"}, prefixes(func(x *measure.Cost) uint64 { return x.Bytes })),
}

func prefixes(read func(*measure.Cost) uint64) func(*view, *putter) {
	return func(v *view, put *putter) {
		seen := map[string]bool{}
		for _, x := range v.Calls.Prefixes.Most(prefixesMax) {
			name := printable(x.Name)
			if seen[name] {
				continue // two names that differ in bytes that cannot be printed
			}
			seen[name] = true
			put.value(float64(read(&x)*rpc.PrefixSample), name)
		}
	}
}

// printable returns a name with \xNN for bytes that cannot be printed: labels are text.
func printable(name string) string {
	quoted := strconv.QuoteToASCII(name)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
