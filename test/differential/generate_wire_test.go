package differential

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// oddly writes the request of a command as no library would, but every library reads it: in two parts, each with fields of its
// own, unknown ones between them, and numbers longer than they need be. Members of Ashlar propose the bytes that a
// client has sent.
func (g *generator) oddly(s step) step {
	field, m := commandOf(s.command)
	if m == nil {
		return s
	}
	other := &etcdserverpb.InternalRaftRequest{Header: &etcdserverpb.RequestHeader{}}
	switch field.Number() {
	case 4:
		other.Put = g.put()
	case 5:
		other.DeleteRange = g.deletion()
	case 6:
		other.Txn = g.txn(1)
	case 7:
		other.Compaction = &etcdserverpb.CompactionRequest{Revision: g.revision()}
	case 8:
		other.LeaseGrant = &etcdserverpb.LeaseGrantRequest{TTL: g.number()}
	case 9:
		other.LeaseRevoke = &etcdserverpb.LeaseRevokeRequest{ID: g.lease()}
	default:
		return s
	}
	_, second := commandOf(other)
	var wire []byte
	for i, part := range []proto.Message{m, second} {
		if g.one(2) {
			wire = protowire.AppendVarint(protowire.AppendTag(wire, 1000, protowire.VarintType), 5)
		}
		if g.one(3) {
			wire = append(wire, 0x80|31<<3, 0x81, 0x80, 0x00, 0x00) // field 31 with an overlong tag and the value 0
		}
		if i == 1 && g.one(3) {
			break
		}
		raw, err := proto.Marshal(part)
		if err != nil {
			panic(fmt.Sprintf("encode a request: %v", err))
		}
		wire = append(wire, raw...)
	}
	read := m.ProtoReflect().New().Interface()
	if proto.Unmarshal(wire, read) != nil {
		return s
	}
	c := proto.CloneOf(s.command)
	c.ProtoReflect().Set(field, protoreflect.ValueOfMessage(read.ProtoReflect()))
	s.command, s.wire = c, wire
	return s
}

// commandOf returns which command is set, nil when none is.
func commandOf(c *etcdserverpb.InternalRaftRequest) (field protoreflect.FieldDescriptor, m proto.Message) {
	c.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() != nil && f.Name() != "header" {
			field, m = f, v.Message().Interface()
		}
		return true
	})
	return field, m
}
