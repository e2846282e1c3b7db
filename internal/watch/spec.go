package watch

// Spec says what a watcher wants.
type Spec struct {
	// ID is the id the client chose, which may be negative; 0 lets the stream choose the next free one.
	ID int64
	// Key is the first key. End is the key after the last: nil or empty means Key alone, the one byte 00 all keys
	// from Key on. The stream keeps copies.
	Key, End []byte
	// Start is the first revision wanted; 0 means what comes after the current one.
	Start int64
	// NoPut and NoDelete leave out events of that kind.
	NoPut, NoDelete bool
	// PrevKV adds to each event the version before it.
	PrevKV bool
	// ProgressNotify asks for progress marks of an idle watcher (Stream.NotifyProgress).
	ProgressNotify bool
	// Fragment allows to split a response above the limit, within a revision too.
	Fragment bool
}
