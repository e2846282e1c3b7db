package metrics

import (
	"time"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// operations adds what was applied to what was answered outside the log.
func operations(name, help string, logged, read func(v *view) *measure.Counter) row {
	return counter(name, help, func(v *view) float64 { return float64(logged(v).Value() + read(v).Value()) })
}

// mvccRows are what etcd_mvcc_ and etcd_debugging_mvcc_ name, but for watches.
var mvccRows = []row{
	counted("etcd_mvcc_put_total", "Total number of puts seen by this member.",
		func(v *view) *measure.Counter { return &v.counts.Operations.Puts }),
	counted("etcd_mvcc_delete_total", "Total number of deletes seen by this member.",
		func(v *view) *measure.Counter { return &v.counts.Operations.Deletes }),
	operations("etcd_mvcc_range_total", "Total number of ranges seen by this member. Those that clients ask for; "+
		"ranges in a transaction that writes only where its client is.",
		func(v *view) *measure.Counter { return &v.counts.Operations.Ranges },
		func(v *view) *measure.Counter { return &v.Calls.Reads.Ranges }),
	operations("etcd_mvcc_txn_total", "Total number of txns seen by this member. Those of more than one operation.",
		func(v *view) *measure.Counter { return &v.counts.Operations.Txns },
		func(v *view) *measure.Counter { return &v.Calls.Reads.Txns }),
	gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.",
		func(v *view) float64 { return float64(v.counts.Operations.PutBytes.Value()) }),
	gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", func(v *view) float64 { return float64(v.keys.Keys) }),
	gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.",
		func(v *view) float64 { return float64(v.status.Revision) }),
	gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.",
		func(v *view) float64 { return float64(v.Member.Store().CompactRevision()) }),
	gauge("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes. "+
		"What the state takes on disk, and no less than what is in use.",
		func(v *view) float64 { return float64(v.status.DiskBytes) }),
	gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes. "+
		"What counts against the quota.",
		func(v *view) float64 { return float64(v.status.InUseBytes) }),
	gauge("etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions. "+
		"Views of the state that are open, those of work in the background included.",
		func(v *view) float64 { return float64(v.keys.Users) }),
	histogram("etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.", seconds,
		func(v *view) *measure.Histogram { return v.counts.Hashes }),
	histogram("etcd_mvcc_hash_rev_duration_seconds", "The latency distribution of storage hash by revision operation.", seconds,
		func(v *view) *measure.Histogram { return v.counts.RevisionHashes }),
	counter("etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted.",
		func(v *view) float64 { return float64(v.keys.Removed) }),
	gauge("etcd_debugging_mvcc_db_compaction_last", "The unix time of the last db compaction. Resets to 0 on start.",
		func(v *view) float64 { return float64(v.counts.CompactionEnded.Load()) }),
	histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Bucketed histogram of db compaction pause duration. "+
		"The times of slices of compactions.", milliseconds,
		func(v *view) *measure.Histogram { return v.counts.CompactionSlices }),
	histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Bucketed histogram of db compaction total duration.",
		milliseconds, func(v *view) *measure.Histogram { return v.counts.Compactions }),
	never("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
		"Bucketed histogram of index compaction pause duration. Empty: there is no index in memory.",
		milliseconds, measure.Durations(500*time.Microsecond, 14)),
	gauge("etcd_debugging_auth_revision", "The current revision of auth store.",
		func(v *view) float64 { return float64(v.Member.Accounts().Revision()) }),
	counter("etcd_debugging_store_expires_total", "Total number of expired keys. Always 0: there is no v2 store.", zero),
	counter("etcd_debugging_store_watch_requests_total",
		"Total number of incoming watch requests (new or reestablished). Always 0: there is no v2 store.", zero),
	gauge("etcd_debugging_store_watchers", "Count of currently active watchers. Always 0: there is no v2 store.", zero),
}

// leaseRows are what is told of leases.
var leaseRows = []row{
	counted("etcd_debugging_lease_granted_total", "The total number of granted leases.",
		func(v *view) *measure.Counter { return &v.counts.LeasesGranted }),
	counted("etcd_debugging_lease_revoked_total", "The total number of revoked leases.",
		func(v *view) *measure.Counter { return &v.counts.LeasesRevoked }),
	counted("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.",
		func(v *view) *measure.Counter { return &v.counts.LeasesRenewed }),
	counted("etcd_debugging_server_lease_expired_total", "The total number of expired leases.",
		func(v *view) *measure.Counter { return &v.counts.LeasesExpired }),
	histogram("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", plain,
		func(v *view) *measure.Histogram { return v.counts.LeaseTTLs }),
}
