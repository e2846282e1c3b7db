package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	_ "embed" // the trace
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// recordedTrace is what kube-apiserver 1.36.3 sent to etcd 3.7.1 in its first five minutes, with the gist of the answers: a line of
// JSON for each request. Values of more than 512 bytes are replaced by the text len:N.
//
//go:embed testdata/kubernetes-1.36.trace.jsonl.gz
var recordedTrace []byte

// traceLineBytesMax bounds a line of a trace.
const traceLineBytesMax = 16 << 20

// traceLine is one request and what etcd answered.
type traceLine struct {
	seq       int
	stream    int // of watches
	request   proto.Message
	revision  int64 // of the answer; 0 where it has none
	succeeded bool
	kvs       int
	count     int64
	lease     int64 // that was granted
}

// traceMessages make an empty request of each method.
var traceMessages = map[string]func() proto.Message{
	etcdserverpb.KV_Range_FullMethodName:           func() proto.Message { return &etcdserverpb.RangeRequest{} },
	etcdserverpb.KV_Txn_FullMethodName:             func() proto.Message { return &etcdserverpb.TxnRequest{} },
	etcdserverpb.KV_Compact_FullMethodName:         func() proto.Message { return &etcdserverpb.CompactionRequest{} },
	etcdserverpb.Watch_Watch_FullMethodName:        func() proto.Message { return &etcdserverpb.WatchRequest{} },
	etcdserverpb.Lease_LeaseGrant_FullMethodName:   func() proto.Message { return &etcdserverpb.LeaseGrantRequest{} },
	etcdserverpb.Maintenance_Status_FullMethodName: func() proto.Message { return &etcdserverpb.StatusRequest{} },
}

// builtInTrace is the trace that comes with this program.
func builtInTrace() ([]traceLine, error) {
	in, err := gzip.NewReader(bytes.NewReader(recordedTrace))
	if err != nil {
		return nil, fmt.Errorf("unpacking the trace: %w", err)
	}
	return readTrace(in)
}

// readTrace reads a trace and puts its lines into the order in which they were carried out.
func readTrace(in io.Reader) ([]traceLine, error) {
	var lines []traceLine
	s := bufio.NewScanner(in)
	s.Buffer(nil, traceLineBytesMax)
	for n := 1; s.Scan(); n++ {
		l, err := parseTraceLine(s.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d of the trace: %w", n, err)
		}
		lines = append(lines, l)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("reading the trace: %w", err)
	}
	inOrder(lines)
	return lines, nil
}

func parseTraceLine(text []byte) (traceLine, error) {
	var l struct {
		Seq, Stream int
		Method      string
		Request     json.RawMessage
		Reply       struct {
			Revision, Count, ID int64
			KVs                 int
			Succeeded           bool
		}
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return traceLine{}, err
	}
	empty := traceMessages[l.Method]
	if empty == nil {
		return traceLine{}, fmt.Errorf("the method %q is unknown", l.Method)
	}
	m := empty()
	if err := protojson.Unmarshal(l.Request, m); err != nil {
		return traceLine{}, err
	}
	if t, ok := m.(*etcdserverpb.TxnRequest); ok {
		for _, op := range t.Success {
			if p := op.GetRequestPut(); p != nil {
				p.Value = originalSize(l.Seq, p.Value)
			}
		}
	}
	return traceLine{l.Seq, l.Stream, m, l.Reply.Revision, l.Reply.Succeeded, l.Reply.KVs, l.Reply.Count, l.Reply.ID}, nil
}

// originalSize makes up the value whose length only was recorded.
func originalSize(seq int, recorded []byte) []byte {
	text, ok := bytes.CutPrefix(recorded, []byte("len:"))
	if !ok {
		return recorded
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n > traceLineBytesMax {
		return recorded
	}
	return value(seq, n)
}

// inOrder puts the lines, which stand in the order in which etcd got them, into the one in which it carried them out, as far as the
// revisions tell: requests that were under way together may have overtaken each other.
func inOrder(lines []traceLine) {
	rank := make(map[int]int64, len(lines))
	var newest int64
	for _, l := range lines {
		newest = max(newest, l.revision)
		switch {
		case l.revision == 0:
			rank[l.seq] = 2*newest + 1
		case l.succeeded:
			rank[l.seq] = 2 * l.revision
		default: // it saw the revision that another one made
			rank[l.seq] = 2*l.revision + 1
		}
	}
	slices.SortStableFunc(lines, func(a, b traceLine) int { return cmp.Compare(rank[a.seq], rank[b.seq]) })
}

// eachKey replaces every key and end of a range in a request.
func eachKey(m proto.Message, change func(key []byte) []byte) {
	both := func(key, end *[]byte) {
		*key = change(*key)
		if len(*end) > 0 {
			*end = change(*end)
		}
	}
	switch q := m.(type) {
	case *etcdserverpb.RangeRequest:
		both(&q.Key, &q.RangeEnd)
	case *etcdserverpb.PutRequest:
		q.Key = change(q.Key)
	case *etcdserverpb.DeleteRangeRequest:
		both(&q.Key, &q.RangeEnd)
	case *etcdserverpb.WatchRequest:
		if c := q.GetCreateRequest(); c != nil {
			both(&c.Key, &c.RangeEnd)
		}
	case *etcdserverpb.TxnRequest:
		for _, c := range q.Compare {
			both(&c.Key, &c.RangeEnd)
		}
		for _, op := range slices.Concat(q.Success, q.Failure) {
			switch op := op.Request.(type) {
			case *etcdserverpb.RequestOp_RequestRange:
				eachKey(op.RequestRange, change)
			case *etcdserverpb.RequestOp_RequestPut:
				eachKey(op.RequestPut, change)
			case *etcdserverpb.RequestOp_RequestDeleteRange:
				eachKey(op.RequestDeleteRange, change)
			}
		}
	}
}
