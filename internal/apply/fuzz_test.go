package apply

import (
	"bytes"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzParsers compares the parsers with the protobuf library: both take the same bytes and read the same from them. As
// the library's messages are compared field by field, a message is rebuilt from what a parser read.
func FuzzParsers(f *testing.F) {
	for _, m := range []proto.Message{
		&etcdserverpb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: -1, PrevKv: true, IgnoreValue: true, IgnoreLease: true},
		&etcdserverpb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true},
		&etcdserverpb.RangeRequest{
			Key: []byte("k"), RangeEnd: []byte{0}, Limit: 1, Revision: -2, SortOrder: 7, SortTarget: -3, Serializable: true,
			KeysOnly: true, CountOnly: true, MinModRevision: 4, MaxModRevision: 5, MinCreateRevision: 6, MaxCreateRevision: 7,
		},
		&etcdserverpb.CompactionRequest{Revision: 5, Physical: true},
		&etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{
				{Result: 3, Target: 2, Key: []byte("c"), RangeEnd: []byte("d"), TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: 9}},
				{Target: 3, TargetUnion: &etcdserverpb.Compare_Value{Value: []byte("v")}},
				{Target: 4, TargetUnion: &etcdserverpb.Compare_Lease{}},
			},
			Success: then(put("a", "1"), get("b", 4), del("c", "d"), then(put("e", ""))).Success,
			Failure: []*etcdserverpb.RequestOp{{}},
		},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(append(raw, raw...))
		f.Add(Encode(Header{ID: 7, Username: "u", AuthRevision: 3}, CommandPut, raw)) // an entry, of all but one a wrong one
	}
	f.Add([]byte("\x12\x06\x12\x02\x0a\x00\x1a\x00"))                           // a oneof with two members
	f.Add([]byte("\x12\x0e\x12\x03\x0a\x01a\x12\x07\x12\x01b\x2a\x01\x01\x00")) // one twice
	f.Add([]byte("\x0b\x08\x01\x0c\x08\x01"))                                   // a group
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePut(raw)
		agree(t, raw, err, &etcdserverpb.PutRequest{}, func() proto.Message { return p.message() })
		d, err := ParseDeleteRange(raw)
		agree(t, raw, err, &etcdserverpb.DeleteRangeRequest{}, func() proto.Message { return d.message() })
		r, err := ParseRange(raw)
		agree(t, raw, err, &etcdserverpb.RangeRequest{}, func() proto.Message { return r.message() })
		c, err := ParseCompact(raw)
		agree(t, raw, err, &etcdserverpb.CompactionRequest{}, func() proto.Message {
			return &etcdserverpb.CompactionRequest{Revision: c.Revision, Physical: c.Physical}
		})
		x, err := ParseTxn(raw)
		agree(t, raw, err, &etcdserverpb.TxnRequest{}, func() proto.Message { return x.message() })
		agreeOnEntry(t, raw)
	})
}

func agree(t *testing.T, raw []byte, err error, lib proto.Message, ours func() proto.Message) {
	t.Helper()
	want := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(raw, lib)
	if (err == nil) != (want == nil) {
		t.Fatalf("%T %x: %v, the library says %v", lib, raw, err, want)
	}
	if err == nil && !proto.Equal(ours(), lib) {
		t.Fatalf("%T %x: read as\n%v, the library reads\n%v", lib, raw, ours(), lib)
	}
}

// agreeOnEntry checks that an entry is taken only if the library takes it, with the same header.
func agreeOnEntry(t *testing.T, raw []byte) {
	t.Helper()
	h, cmd, body, err := Decode(raw)
	if err != nil {
		return
	}
	var lib etcdserverpb.InternalRaftRequest
	if want := proto.Unmarshal(raw, &lib); want != nil {
		// Decode leaves the command's message to its parser.
		if cmd != CommandPut {
			return
		}
		if _, err := ParsePut(body); err == nil {
			t.Fatalf("%x: taken, the library says %v", raw, want)
		}
		return
	}
	want := Header{ID: lib.GetID(), Username: lib.GetHeader().GetUsername(), AuthRevision: lib.GetHeader().GetAuthRevision()}
	if want.ID == 0 {
		want.ID = lib.GetHeader().GetID()
	}
	if h != want {
		t.Fatalf("%x: header %+v, the library says %+v", raw, h, want)
	}
	if cmd != CommandPut {
		return
	}
	p, err := ParsePut(body)
	if err != nil || !bytes.Equal(p.Key, lib.GetPut().GetKey()) || !bytes.Equal(p.Value, lib.GetPut().GetValue()) {
		t.Fatalf("%x: put %+v, %v, the library says %v", raw, p, err, lib.GetPut())
	}
}

func (p *Put) message() *etcdserverpb.PutRequest {
	return &etcdserverpb.PutRequest{
		Key: p.Key, Value: p.Value, Lease: p.Lease, PrevKv: p.PrevKV, IgnoreValue: p.IgnoreValue, IgnoreLease: p.IgnoreLease,
	}
}

func (d *DeleteRange) message() *etcdserverpb.DeleteRangeRequest {
	return &etcdserverpb.DeleteRangeRequest{Key: d.Key, RangeEnd: d.RangeEnd, PrevKv: d.PrevKV}
}

func (r *Range) message() *etcdserverpb.RangeRequest {
	return &etcdserverpb.RangeRequest{
		Key: r.Key, RangeEnd: r.RangeEnd, Limit: r.Limit, Revision: r.Revision,
		SortOrder:    etcdserverpb.RangeRequest_SortOrder(r.SortOrder),
		SortTarget:   etcdserverpb.RangeRequest_SortTarget(r.SortTarget),
		Serializable: r.Serializable, KeysOnly: r.KeysOnly, CountOnly: r.CountOnly,
		MinModRevision: r.MinMod, MaxModRevision: r.MaxMod, MinCreateRevision: r.MinCreate, MaxCreateRevision: r.MaxCreate,
	}
}

func (t *Txn) message() *etcdserverpb.TxnRequest {
	m := &etcdserverpb.TxnRequest{}
	for i := range t.Compare {
		m.Compare = append(m.Compare, t.Compare[i].message())
	}
	for _, op := range t.Success {
		m.Success = append(m.Success, op.message())
	}
	for _, op := range t.Failure {
		m.Failure = append(m.Failure, op.message())
	}
	return m
}

func (op Op) message() *etcdserverpb.RequestOp {
	switch {
	case op.Range != nil:
		return request(op.Range.message())
	case op.Put != nil:
		return request(op.Put.message())
	case op.DeleteRange != nil:
		return request(op.DeleteRange.message())
	case op.Txn != nil:
		return request(op.Txn.message())
	default:
		return &etcdserverpb.RequestOp{}
	}
}

func (c *Compare) message() *etcdserverpb.Compare {
	m := &etcdserverpb.Compare{
		Result: etcdserverpb.Compare_CompareResult(c.Result), Target: etcdserverpb.Compare_CompareTarget(c.Target),
		Key: c.Key, RangeEnd: c.RangeEnd,
	}
	switch c.Union {
	case UnionVersion:
		m.TargetUnion = &etcdserverpb.Compare_Version{Version: c.Number}
	case UnionCreate:
		m.TargetUnion = &etcdserverpb.Compare_CreateRevision{CreateRevision: c.Number}
	case UnionMod:
		m.TargetUnion = &etcdserverpb.Compare_ModRevision{ModRevision: c.Number}
	case UnionValue:
		m.TargetUnion = &etcdserverpb.Compare_Value{Value: slices.Concat([]byte{}, c.Value)}
	case UnionLease:
		m.TargetUnion = &etcdserverpb.Compare_Lease{Lease: c.Number}
	}
	return m
}
