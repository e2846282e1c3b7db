package apply

// Put is an etcdserverpb.PutRequest. Slices alias the bytes it was parsed from, here and in the other requests.
type Put struct {
	Key, Value  []byte
	Lease       int64
	PrevKV      bool
	IgnoreValue bool
	IgnoreLease bool
}

// DeleteRange is an etcdserverpb.DeleteRangeRequest.
type DeleteRange struct {
	Key, RangeEnd []byte
	PrevKV        bool
}

// Range is an etcdserverpb.RangeRequest.
type Range struct {
	Key, RangeEnd        []byte
	Limit                int64
	Revision             int64
	SortOrder            int32
	SortTarget           int32
	Serializable         bool
	KeysOnly, CountOnly  bool
	MinMod, MaxMod       int64
	MinCreate, MaxCreate int64
}

// Compact is an etcdserverpb.CompactionRequest.
type Compact struct {
	Revision int64
	Physical bool
}

// Txn is an etcdserverpb.TxnRequest.
type Txn struct {
	Compare          []Compare
	Success, Failure []Op
}

// Op is an etcdserverpb.RequestOp: at most one of its fields is set. With none set it does nothing and has no answer;
// the rpc layer refuses it.
type Op struct {
	Range       *Range
	Put         *Put
	DeleteRange *DeleteRange
	Txn         *Txn
}

// Compare is an etcdserverpb.Compare.
type Compare struct {
	Result   CompareResult
	Target   CompareTarget
	Key      []byte
	RangeEnd []byte
	// Union says which of the values to compare with was sent, and Number or Value holds it. Where it does not
	// match Target, the comparison is with zero, as in etcd.
	Union  CompareUnion
	Number int64
	Value  []byte
}

// CompareResult is numbered as in etcdserverpb. Any other number makes the comparison true where it takes place.
type CompareResult int32

// The results to ask for.
const (
	CompareEqual CompareResult = iota
	CompareGreater
	CompareLess
	CompareNotEqual
)

// CompareTarget is numbered as in etcdserverpb. Any other number compares zero with zero.
type CompareTarget int32

// The targets.
const (
	CompareVersion CompareTarget = iota
	CompareCreate
	CompareMod
	CompareValue
	CompareLease
)

// CompareUnion is the number of the field sent in Compare's target_union, 0 when none was.
type CompareUnion byte

// The fields of target_union.
const (
	UnionVersion CompareUnion = iota + 4
	UnionCreate
	UnionMod
	UnionValue
	UnionLease
)

// ReadOnly tells whether no branch of the transaction, at any depth, can change anything.
func (t *Txn) ReadOnly() bool {
	return all(t, func(op *Op) bool { return op.Put == nil && op.DeleteRange == nil })
}

// Serializable tells whether the transaction reads, and all it reads need not be linearizable. Its compares have no such
// mark, so a transaction without a range is not serializable (etcd takes it for one).
func (t *Txn) Serializable() bool {
	ranges := false
	return t.ReadOnly() && all(t, func(op *Op) bool {
		ranges = ranges || op.Range != nil
		return op.Range == nil || op.Range.Serializable
	}) && ranges
}

// all tells whether yes holds for all operations of both branches, nested ones too.
func all(t *Txn, yes func(*Op) bool) bool {
	for _, branch := range [2][]Op{t.Success, t.Failure} {
		for i := range branch {
			op := &branch[i]
			if !yes(op) || op.Txn != nil && !all(op.Txn, yes) {
				return false
			}
		}
	}
	return true
}
