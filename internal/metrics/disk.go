package metrics

import "github.com/ashlar-kv/ashlar/internal/measure"

// diskRows are what etcd_disk_ and etcd_snap_ name.
var diskRows = []row{
	histogram("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL. "+
		"The whole time of appending to the log and syncing it.", seconds,
		func(v *view) *measure.Histogram { return v.node.Syncs }),
	histogram("etcd_disk_wal_write_duration_seconds", "The latency distributions of write called by WAL. "+
		"The whole time of appending to the log, with the sync where there is one.", seconds,
		func(v *view) *measure.Histogram { return v.node.Appends }),
	gauge("etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL.",
		func(v *view) float64 { return float64(v.log.WrittenBytes) }),
	histogram("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend. "+
		"The times of making a batch of entries visible in the state, which is in memory; the log is what is synced.", seconds,
		func(v *view) *measure.Histogram { return v.counts.State.Commits }),
	histogram("etcd_debugging_disk_backend_commit_write_duration_seconds", "The latency distributions of commit.write called by bboltdb backend. "+
		"The times of writing a memtable of the state to disk, in the background.", seconds,
		func(v *view) *measure.Histogram { return v.counts.State.Flushes }),
	never("etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
		"The latency distributions of commit.rebalance called by bboltdb backend. Empty: there is nothing to rebalance.", seconds, disk()),
	never("etcd_debugging_disk_backend_commit_spill_duration_seconds",
		"The latency distributions of commit.spill called by bboltdb backend. Empty: there is nothing to spill.", seconds, disk()),
	histogram("etcd_disk_backend_snapshot_duration_seconds", "The latency distribution of backend snapshots. "+
		"The times of making a database file for a client.", seconds,
		func(v *view) *measure.Histogram { return v.counts.Exports }),
	histogram("etcd_disk_backend_defrag_duration_seconds", "The latency distribution of backend defragmentation. "+
		"It runs in the background and blocks nothing.", seconds,
		func(v *view) *measure.Histogram { return v.counts.Defragments }),
	gauge("etcd_disk_defrag_inflight", "Whether or not defrag is active on the member. 1 means active, 0 means not.",
		func(v *view) float64 { return flag(v.counts.Defragmenting.Load()) }),
	histogram("etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save. "+
		"The times of receiving a snapshot and making a state of it.", seconds,
		func(v *view) *measure.Histogram { return v.counts.SnapshotsBuilt }),
	histogram("etcd_snap_db_fsync_duration_seconds", "The latency distributions of fsyncing .snap.db file. "+
		"The times of the last sync of a state made of a snapshot.", seconds,
		func(v *view) *measure.Histogram { return v.counts.SnapshotsSynced }),
	never("etcd_snap_fsync_duration_seconds",
		"The latency distributions of fsync called by snap. Empty: there are no snapshot files.", seconds, disk()),
	never("etcd_debugging_snap_save_marshalling_duration_seconds",
		"The marshalling cost distributions of save called by snapshot. Empty: there are no snapshot files.", seconds, disk()),
	never("etcd_debugging_snap_save_total_duration_seconds",
		"The total latency distributions of save called by snapshot. Empty: there are no snapshot files.", seconds, disk()),
}
