package rpc

import (
	"context"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// KVMember is what the KV service needs of a member. All methods are called from many goroutines.
type KVMember interface {
	// Propose puts the request message raw, as command c, into the log and waits for its result. raw is copied.
	// A refusal is the error, too. After the context's error the request may still happen.
	Propose(ctx context.Context, c apply.Command, raw []byte) (apply.Result, error)
	// CheckSpace returns apply.ErrNoSpace when the quota has no room for a request that may need cost bytes.
	CheckSpace(ctx context.Context, cost int64) error
	// LeaseHasRoom returns an error when no more keys should hang on a lease.
	LeaseHasRoom(id int64) error
	// ReadBarrier returns once all that was committed when it was called can be read.
	ReadBarrier(ctx context.Context) error
	// Newest answers a range of one key at the newest revision from memory; ok says whether it could.
	Newest(o mvcc.RangeOptions) (kv mvcc.KV, res mvcc.RangeResult, ok bool)
	// View opens the state at a revision, 0 or less for the newest. The caller closes it.
	View(rev int64) (*mvcc.View, error)
	// WaitCompacted returns once what was compacted up to rev is removed.
	WaitCompacted(ctx context.Context, rev int64) error
	// Header returns what each response header says beside the revision.
	Header() (clusterID, memberID, term uint64)
}

// KVOptions are the limits of the KV service; zero values stand for the defaults.
type KVOptions struct {
	// TxnOpsMax bounds the lists of a transaction (128); below 0 they hold nothing.
	TxnOpsMax int
	// ResponseBudget bounds the bytes that all large responses hold at a time (DefaultResponseBudget). At the
	// bound they are built one after another; a request waits for it as long as its context lets it.
	ResponseBudget int64
	// ReserveCache takes bytes from a cache until release is called: as many as large responses hold. nil takes none.
	ReserveCache func(bytes int64) (release func())
	// Conns are the connections that requests come from. A client that reads nothing of a large response while others
	// wait for the budget is cut off. nil lets it be waited for, and is for tests alone.
	Conns *Conns
	// Gate decides what clients may read and write; nil lets everyone do everything.
	Gate *Gate
	// Measures count what is read and written; nil is for nobody.
	Measures *Measures
	// DeleteKeysMax bounds the keys that one request may delete (1,000,000).
	DeleteKeysMax int64
}

// KV is the service etcdserverpb.KV.
type KV struct {
	member         KVMember
	txnOpsMax      int
	deleteKeysMax  int64
	deleteBytesMax int64
	answerMax      int64 // responseMax, but in tests
	budget         *budget
	gate           *Gate
	measures       *Measures
	gradualFrom    int           // gradualFrom, but in tests
	readerPatience time.Duration // readerPatience, but in tests
	gradually      atomic.Int32  // answers that have a rest
	strides        strides
}

// NewKV returns the service on a member.
func NewKV(m KVMember, o KVOptions) *KV {
	if o.TxnOpsMax == 0 {
		o.TxnOpsMax = 128
	}
	if o.DeleteKeysMax <= 0 {
		o.DeleteKeysMax = deleteKeysMax
	}
	if o.Measures == nil {
		o.Measures = NewMeasures(false)
	}
	b := newBudget(o.ResponseBudget)
	b.reserve = o.ReserveCache
	if o.Conns != nil {
		b.conns, o.Conns.gone = o.Conns, b.gone
	}
	return &KV{member: m, txnOpsMax: max(o.TxnOpsMax, 0), deleteKeysMax: o.DeleteKeysMax,
		deleteBytesMax: deleteBytesMax, answerMax: responseMax, budget: b, gate: o.Gate, measures: o.Measures, gradualFrom: gradualFrom, readerPatience: readerPatience}
}

// Register adds the service to a server that NewServer has made; another one lacks the codec.
func (s *KV) Register(r grpc.ServiceRegistrar) { r.RegisterService(&kvDesc, s) }

// kvService is what kvDesc demands of what is registered.
type kvService interface{ isKV() }

func (s *KV) isKV() {}

// kvDesc names the methods as etcd's description does, with handlers that pass bytes on.
var kvDesc = grpc.ServiceDesc{
	ServiceName: etcdserverpb.KV_ServiceDesc.ServiceName,
	HandlerType: (*kvService)(nil),
	Methods: []grpc.MethodDesc{
		unary(MethodRange, (*KV).Range),
		unary(MethodPut, (*KV).Put),
		unary(MethodDeleteRange, (*KV).DeleteRange),
		unary(MethodTxn, (*KV).Txn),
		unary(MethodCompact, (*KV).Compact),
	},
	Streams: []grpc.StreamDesc{{
		StreamName:    MethodRangeStream.String(),
		ServerStreams: true,
		Handler:       handleRangeStream,
	}},
	Metadata: etcdserverpb.KV_ServiceDesc.Metadata,
}

// header returns the header of a response at a revision.
func (s *KV) header(rev int64) header {
	cluster, member, term := s.member.Header()
	return header{cluster, member, rev, term}
}

// respond makes a response of a revision and the encoded fields after the header.
func (s *KV) respond(rev int64, body []byte) (*Response, error) {
	r := newResponse(s.budget)
	r.header(s.header(rev))
	if err := r.attach(body); err != nil {
		return nil, err
	}
	return r, nil
}
