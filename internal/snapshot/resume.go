package snapshot

// Metadata of Maintenance.Snapshot, by which a client of ours goes on with a transfer that was cut off (docs/backup.md). The
// request has both; a response has them when the transfer can be gone on with. Other servers and clients know neither.
const (
	// TransferKey is the id of the transfer, TransferNew in a request for the first one.
	TransferKey = "ashlar-snapshot-id"
	// TransferNew asks for a transfer that can be gone on with.
	TransferNew = "new"
	// OffsetKey is the offset in the database file at which the messages begin, in decimal. In a response it is that of the request,
	// or 0 when the server does not have that transfer any more.
	OffsetKey = "ashlar-snapshot-offset"
)
