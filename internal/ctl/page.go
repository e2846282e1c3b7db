package ctl

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// page is where a reply is printed.
type page struct {
	io.Writer
	hex   bool  // keys, values and some ids in hexadecimal
	paint paint // colours, on a terminal
}

// buffered runs write with few writes behind it, and returns the first error of the stream.
func (p *page) buffered(write func(*page)) error {
	b := bufio.NewWriterSize(p.Writer, 64<<10)
	write(&page{Writer: b, hex: p.hex, paint: p.paint})
	return b.Flush()
}

func (p *page) line(args ...any)                  { fmt.Fprintln(p, args...) }
func (p *page) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// field prints one field: numbers and booleans bare, strings quoted.
func (p *page) field(name string, value any) {
	switch v := value.(type) {
	case string:
		p.printf("%q : %q\n", name, v)
	case []byte:
		p.printf("%q : %q\n", name, v)
	default:
		p.printf("%q : %v\n", name, v)
	}
}

// lease prints a field that is a lease's id.
func (p *page) lease(name string, id int64) {
	if p.hex {
		p.printf("%q : %016x\n", name, id)
		return
	}
	p.field(name, id)
}

// member prints a field that is a member's id.
func (p *page) member(name string, id uint64) {
	if p.hex {
		p.printf("%q : %x\n", name, id)
		return
	}
	p.field(name, id)
}

// header prints the fields of a header; answers that concern no keys have no revision. h may be nil.
func (p *page) header(h *pb.ResponseHeader) {
	p.field("ClusterID", h.GetClusterId())
	p.field("MemberID", h.GetMemberId())
	if r := h.GetRevision(); r > 0 {
		p.field("Revision", r)
	}
	p.field("RaftTerm", h.GetRaftTerm())
}

// text returns a key or value as the simple format shows it.
func (p *page) text(b []byte) string {
	if !p.hex {
		return string(b)
	}
	digits := hex.EncodeToString(b)
	var t strings.Builder
	for i := 0; i < len(digits); i += 2 {
		t.WriteString(`\x`)
		t.WriteString(digits[i : i+2])
	}
	return t.String()
}

// keyValue prints a key and its value, a line each.
func (p *page) keyValue(kv *mvccpb.KeyValue) {
	p.line(p.paint.cyan(p.text(kv.GetKey())))
	p.line(p.text(kv.GetValue()))
}

// keyValueFields prints all of a key, each name after prefix.
func (p *page) keyValueFields(prefix string, kv *mvccpb.KeyValue) {
	p.field(prefix+"Key", kv.GetKey())
	p.field(prefix+"CreateRevision", kv.GetCreateRevision())
	p.field(prefix+"ModRevision", kv.GetModRevision())
	p.field(prefix+"Version", kv.GetVersion())
	p.field(prefix+"Value", kv.GetValue())
	p.lease(prefix+"Lease", kv.GetLease())
}

// headerFields is the fields form of an answer that has nothing but a header.
func headerFields(h *pb.ResponseHeader) func(*page) {
	return func(p *page) { p.header(h) }
}
