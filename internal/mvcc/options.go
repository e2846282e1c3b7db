package mvcc

// SortOrder is the order of a range's result, numbered as in etcdserverpb.RangeRequest.
type SortOrder int32

// The sort orders. SortNone with a target other than the key sorts ascending, as etcd does.
const (
	SortNone SortOrder = iota
	SortAscend
	SortDescend
)

// SortTarget is what a range's result is sorted by, numbered as in etcdserverpb.RangeRequest.
type SortTarget int32

// The sort targets.
const (
	SortByKey SortTarget = iota
	SortByVersion
	SortByCreate
	SortByMod
	SortByValue
)

// MaxSortBytes bounds the encoded key-values that a range may hold in memory to sort them.
const MaxSortBytes = 512 << 20

// RangeOptions says what to read. The zero values of all fields but Key are sensible.
type RangeOptions struct {
	// Key is the first key. End is the key after the last; nil means Key alone, the one byte 00 all keys
	// from Key on. Both are read during the call only.
	Key, End []byte
	// Rev is the revision to read at; 0 or less means the one of the Reader.
	Rev int64
	// Limit bounds the number of key-values given out, after filters and sorting; 0 or less means no bound.
	Limit int64
	// Order and Target say how the result is sorted; equal keys of a sort stay in the order of their keys.
	Order  SortOrder
	Target SortTarget
	// KeysOnly gives out key-values without their values and, unless Target is SortByValue, without their leases.
	KeysOnly bool
	// CountOnly gives out nothing and only counts.
	CountOnly bool
	// MinMod to MaxCreate, when not 0, leave out key-values whose revisions are below or above.
	MinMod, MaxMod       int64
	MinCreate, MaxCreate int64
	// SkipCount says that RangeResult.Count is not needed: it may then be anything.
	SkipCount bool
	// NoLarge says that no values are wanted, as with Reader.Head. Nothing is copied for it, and leases are given out.
	NoLarge bool
	// Measure, when not nil, is told how many bytes those key-values take that are not given out because emit has returned ErrMeasure: each
	// as a field of a message, with its length and a tag of one byte. It is told of several at a time, perhaps of none, and by any goroutine,
	// but by one after another: the sum is what counts. Its error ends the range and is returned as it is. With NoLarge it is told how long
	// the whole ones are.
	Measure func(length int) error
	// Hold, when not nil, is called before a sort holds that many more bytes of key-values, in pieces of 64 KiB or more. Its
	// error ends the range and is returned as it is. They are held until Range returns.
	Hold func(bytes int) error
	// Ended, when not nil, is asked after each 1,024 keys that a filter leaves out, or that are collected to be sorted: nothing is given out meanwhile. Its
	// error ends the range and is returned as it is.
	Ended func() error
}

// askEvery is after how many keys RangeOptions.Ended is asked.
const askEvery = 1024

// AllKeys tells whether every key of the range is given out: there is no limit and no filter.
func (o *RangeOptions) AllKeys() bool { return o.Limit <= 0 && !o.filtered() }

func (o *RangeOptions) filtered() bool { return o.MinMod|o.MaxMod|o.MinCreate|o.MaxCreate != 0 }

// RangeResult says what a range found beside its key-values.
type RangeResult struct {
	// Count is the number of live keys in the range at the revision read, whatever Limit and the filters say.
	Count int64
	// More tells that Limit has cut the result short.
	More bool
	// Rev is the store's revision at the time of reading, which a response's header carries. It is not
	// the revision read at.
	Rev int64
}

// Reader reads key-values at a revision. A View reads what is committed, a Writer also what its group has written.
type Reader interface {
	// Range gives the key-values that o asks for to emit, in order. The KV is valid only until emit
	// returns; emit must not use the Reader. An error of emit ends the range and is returned as it is.
	// Returns ErrCompacted and ErrFutureRevision for a revision that cannot be read, ErrTooLarge for a sort
	// that does not fit; nothing was emitted then.
	Range(o RangeOptions, emit func(kv KV) error) (RangeResult, error)
	// Get returns the newest live version of key at the Reader's revision. The KV is valid until the
	// Reader is used again.
	Get(key []byte) (KV, bool, error)
	// Head is Get for who wants no value: the KV is without a large one, which is not read.
	Head(key []byte) (KV, bool, error)
}

var (
	_ Reader = (*View)(nil)
	_ Reader = (*Writer)(nil)
)
