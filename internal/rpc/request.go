package rpc

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// Method is a method of the KV service.
type Method uint8

// The methods of the KV service.
const (
	MethodRange Method = iota
	MethodRangeStream
	MethodPut
	MethodDeleteRange
	MethodTxn
	MethodCompact
	methods
)

// methodInfo is what is known of a method: its name, and the message it takes.
type methodInfo struct {
	name    string
	message func() proto.Message
}

var methodInfos = [methods]methodInfo{
	MethodRange:       {"Range", func() proto.Message { return new(etcdserverpb.RangeRequest) }},
	MethodRangeStream: {"RangeStream", func() proto.Message { return new(etcdserverpb.RangeRequest) }},
	MethodPut:         {"Put", func() proto.Message { return new(etcdserverpb.PutRequest) }},
	MethodDeleteRange: {"DeleteRange", func() proto.Message { return new(etcdserverpb.DeleteRangeRequest) }},
	MethodTxn:         {"Txn", func() proto.Message { return new(etcdserverpb.TxnRequest) }},
	MethodCompact:     {"Compact", func() proto.Message { return new(etcdserverpb.CompactionRequest) }},
}

// String returns the method's name without its service.
func (m Method) String() string {
	if m < methods {
		return methodInfos[m].name
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// Request is a request to the KV service as its interceptors and handlers see it: the bytes that came, not a
// message struct. It and everything got from it belong to one call and are valid until its handler returns.
type Request struct {
	method Method
	began  time.Time // when its message began to be received
	raw    []byte
	buf    mem.Buffer // holds raw; nil when raw is a slice of our own

	// What the request says; its slices alias raw. Only the one of the method is set.
	get     apply.Range
	put     apply.Put
	del     apply.DeleteRange
	txn     apply.Txn
	compact apply.Compact
}

// NewRequest makes a Request from an encoded message, as the gateway and tests need it. raw is kept and must not
// change. The error is what gRPC would report for a malformed message.
func NewRequest(m Method, raw []byte) (*Request, error) {
	r := &Request{method: m}
	if err := r.decode(raw); err != nil {
		return nil, err
	}
	return r, nil
}

// Method returns the method called.
func (r *Request) Method() Method { return r.method }

// Raw returns the encoded request message. It must not be changed.
func (r *Request) Raw() []byte { return r.raw }

// Message decodes the request. The message is a copy that may be kept.
func (r *Request) Message() (proto.Message, error) {
	m := methodInfos[r.method].message()
	if err := proto.Unmarshal(r.raw, m); err != nil {
		return nil, fmt.Errorf("decode a %s request: %w", r.method, err)
	}
	return m, nil
}

// take decodes the request from what gRPC received, and holds the memory until free.
func (r *Request) take(data mem.BufferSlice) error {
	r.buf = data.MaterializeToBuffer(requestPool)
	return r.decode(r.buf.ReadOnlyData())
}

func (r *Request) free() {
	if r.buf != nil {
		r.raw = nil
		r.buf.Free()
		r.buf = nil
	}
}

// decode sets raw and what it says.
func (r *Request) decode(raw []byte) error {
	r.raw = raw
	err := r.parse()
	if err == nil {
		return nil
	}
	// Package proto words the error. Should it take what our parser refuses, it is believed.
	m := methodInfos[r.method].message()
	if err := proto.Unmarshal(raw, m); err != nil {
		return err
	}
	if r.raw, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
		return err
	}
	return r.parse()
}

func (r *Request) parse() (err error) {
	switch r.method {
	case MethodRange, MethodRangeStream:
		r.get, err = apply.ParseRange(r.raw)
	case MethodPut:
		r.put, err = apply.ParsePut(r.raw)
	case MethodDeleteRange:
		r.del, err = apply.ParseDeleteRange(r.raw)
	case MethodTxn:
		r.txn, err = apply.ParseTxn(r.raw)
	default:
		r.compact, err = apply.ParseCompact(r.raw)
	}
	return err
}
