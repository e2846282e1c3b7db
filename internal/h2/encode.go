package h2

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// table is the part of HPACK's encoder that responses need, RFC 7541: the three headers that most of them are made of are put into the client's
// table once; all others are literals. It is guarded by the connection's mu, and used in the order of the wire.
type table struct {
	off    bool // the client wants a smaller table than every connection begins with
	shrunk bool // the client is to be told so
	// When each was put in, counted from 1; 0 is not yet.
	kind, ok, message int
	n                 int
}

// Representations of headers.
const (
	firstDynamic   = 62
	status200      = 0x88
	indexedBit     = 0x80
	addNamed       = 0x40 // literal with incremental indexing
	literalNamed   = 0x00 // literal without indexing
	contentTypeKey = 31   // in the static table
	entryBytes     = 32   // what RFC 9113 counts for each header besides name and value
)

// resize takes the client's limit of its table.
func (t *table) resize(bytes uint32) {
	if bytes < tableBytes && !t.off {
		*t = table{off: true, shrunk: true}
	}
}

// open begins a header block.
func (t *table) open(dst []byte) []byte {
	if t.shrunk {
		t.shrunk = false
		return append(dst, 0x20) // from now on the table has no room
	}
	return dst
}

// again appends a reference to what was put in at a time.
func (t *table) again(dst []byte, at int) []byte {
	return append(dst, indexedBit|byte(firstDynamic+t.n-at))
}

// field appends a header that all responses have, through the table.
func (t *table) field(dst []byte, at *int, name, value string) []byte {
	switch {
	case *at > 0:
		return t.again(dst, *at)
	case t.off:
		return appendLiteral(dst, name, value)
	}
	t.n++
	*at = t.n
	dst = append(dst, addNamed)
	return appendText(appendText(dst, name), value)
}

func appendLiteral(dst []byte, name, value string) []byte {
	dst = append(dst, literalNamed)
	return appendText(appendText(dst, name), value)
}

// appendText appends a string without Huffman's code.
func appendText(dst []byte, s string) []byte {
	n := len(s)
	if n < 0x7f {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, 0x7f)
		for n -= 0x7f; n >= 0x80; n >>= 7 {
			dst = append(dst, byte(n)|0x80)
		}
		dst = append(dst, byte(n))
	}
	return append(dst, s...)
}

// fields is a header block that is being made.
type fields struct {
	c    *conn
	b    []byte
	size int64 // as RFC 9113 counts it
}

func (c *conn) newFields() fields { return fields{c: c, b: c.table.open(c.scratch[:0])} }

func (f *fields) add(name, value string) {
	f.b = appendLiteral(f.b, name, value)
	f.count(name, value)
}

func (f *fields) count(name, value string) { f.size += int64(len(name) + len(value) + entryBytes) }

// opening adds the headers that every response begins with.
func (f *fields) opening(http int, h *head) {
	t := &f.c.table
	if http == 200 {
		f.b = append(f.b, status200)
	} else {
		f.b = appendLiteral(f.b, ":status", strconv.Itoa(http))
	}
	f.count(":status", "200")
	if h.subtype == "" {
		f.b = t.field(f.b, &t.kind, "content-type", baseType)
		f.count("content-type", baseType)
		return
	}
	f.add("content-type", baseType+"+"+h.subtype)
}

// metadata adds what is not reserved.
func (f *fields) metadata(md metadata.MD) {
	for name, values := range md {
		if isReserved(name) {
			continue
		}
		for _, v := range values {
			f.add(name, encodeMetadata(name, v))
		}
	}
}

// status adds a status; the trailers lose the details if the status has some.
func (f *fields) status(st *status.Status, trailer metadata.MD) {
	t := &f.c.table
	if st == okStatus {
		f.b = t.field(f.b, &t.ok, "grpc-status", "0")
		f.count("grpc-status", "0")
	} else {
		f.add("grpc-status", strconv.Itoa(int(st.Code())))
	}
	if text := encodeMessage(st.Message()); text == "" {
		f.b = t.field(f.b, &t.message, "grpc-message", "")
		f.count("grpc-message", "")
	} else {
		f.add("grpc-message", text)
	}
	if st == okStatus {
		return
	}
	if p := st.Proto(); len(p.GetDetails()) > 0 {
		delete(trailer, detailsHeader)
		if b, err := proto.Marshal(p); err == nil {
			f.add(detailsHeader, base64.RawStdEncoding.EncodeToString(b))
		}
	}
}

// send appends the block to what is written; false when it is more than the client takes. REQUIRES: mu is held.
func (f *fields) send(id uint32, end bool) bool {
	c := f.c
	if cap(f.b) <= outBytes {
		c.scratch = f.b[:0]
	}
	if f.size > c.listMax {
		// What went into the client's table is not there. A size of 0 makes both ends agree again, and no more is put in.
		c.table = table{off: true, shrunk: true}
		return false
	}
	c.pingsForget = true
	b, kind, flags := f.b, byte(kindHeaders), byte(0)
	if end {
		flags = flagEndStream
	}
	c.out = c.output.take()
	for {
		n := min(len(b), frameMax)
		if n == len(b) {
			flags |= flagEndHeaders
		}
		c.out = append(appendFrame(c.out, n, kind, flags, id), b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return true
		}
		kind, flags = kindContinuation, 0
	}
}

// appendHeaders sends the headers of a stream; false when the client does not take them. REQUIRES: mu is held.
func (c *conn) appendHeaders(s *stream) bool {
	f := c.newFields()
	f.opening(200, s.head)
	if s.head.packer != nil {
		f.add("grpc-encoding", s.head.encoded)
	}
	f.metadata(s.header)
	return f.send(s.id, false)
}

// appendTrailers sends the status of a stream, with headers if there were none; false when the client does not take them. REQUIRES: mu is held.
func (c *conn) appendTrailers(s *stream) bool {
	f := c.newFields()
	if !s.begun {
		s.begun = true
		f.opening(200, s.head)
	}
	f.status(s.status, s.trailer)
	f.metadata(s.trailer)
	return f.send(s.id, true)
}

// appendRefusal answers a request that has no stream. REQUIRES: mu is held.
func (c *conn) appendRefusal(id uint32, h *head, why *refusal) {
	f := c.newFields()
	f.opening(why.http, h)
	f.status(why.status, nil)
	if !f.send(id, true) {
		c.out = appendReset(c.output.take(), id, codeInternal)
	}
}

// encodeMessage encodes a status message as gRPC over HTTP/2 has it: bytes that are not printable ASCII, and percent signs, in hexadecimal;
// what is not UTF-8 is replaced.
func encodeMessage(s string) string {
	plain := func(b byte) bool { return b >= ' ' && b <= '~' && b != '%' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf && plain(byte(r)) {
			out.WriteByte(byte(r))
			continue
		}
		for _, b := range []byte(string(r)) {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}
