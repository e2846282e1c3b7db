package apply

import "errors"

var (
	// ErrKeyNotFound is the result of a put that keeps the value or the lease of a
	// key that is not there.
	ErrKeyNotFound = errors.New("apply: key not found")
	// ErrEmptyKey is the result of a put without a key, which no member should propose.
	ErrEmptyKey = errors.New("apply: key is not provided")
	// ErrNoSpace is the result of a command that may need space while an alarm says that there is none.
	ErrNoSpace = errors.New("apply: database space exceeded")
	// ErrCorrupt is the result of a command that changes keys or leases while an alarm says that members' data differ.
	ErrCorrupt = errors.New("apply: corrupt cluster")
	// ErrTooLarge is the result of a transaction that reads, or a deletion that is to tell, more than one message can hold. Its writes,
	// if it has any, have happened.
	ErrTooLarge = errors.New("apply: the answer is too large")
	// ErrUnknownCommand is wrapped by Apply's error when an entry holds a command that
	// this release does not know. Going on would make members differ.
	ErrUnknownCommand = errors.New("apply: this release does not know the command")
	// ErrClusterVersion is wrapped by Apply's error when the cluster has moved to a
	// version that this release does not speak.
	ErrClusterVersion = errors.New("apply: the cluster version is above this release's")
	// ErrPlainPassword is wrapped by Apply's error when an entry holds a password instead of a hash, as those of etcd
	// before 3.5 do: each of its members made a hash of its own from it.
	ErrPlainPassword = errors.New("apply: an entry of etcd before 3.5 holds a password without its hash")
	// ErrMalformed is wrapped by errors about bytes that are no encoded request.
	ErrMalformed = errors.New("apply: malformed request")
	// ErrGap is wrapped by Apply's error when an entry is not the one after the last
	// applied.
	ErrGap = errors.New("apply: entries are missing")
)

// Result is what became of an entry.
type Result struct {
	// Index and Term are the entry's.
	Index, Term uint64
	// Revision is the store's after the entry: what the response's header carries.
	Revision int64
	// Body is the encoded response message without its field 1, the header. It is the
	// receiver's. nil for responses that have nothing else.
	Body []byte
	// Err says why the command was refused: one of this package's errors, or
	// mvcc.ErrCompacted, mvcc.ErrFutureRevision, or an error of cluster, lease or auth. The command had
	// no effect then; only with ErrTooLarge and mvcc.ErrTooLarge, when what a transaction reads, or a deletion is to
	// tell, did not fit into memory, its writes have happened.
	Err error
}
