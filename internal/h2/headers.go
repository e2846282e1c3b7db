package h2

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

const (
	tableBytes = 4096
	// headerListMax bounds the headers of one request, as RFC 9113 counts them. Clients are told.
	headerListMax = 1 << 20
	// blockMax bounds the encoded headers of one request, and continuationsMax the frames that they come in.
	blockMax         = headerListMax
	continuationsMax = 256
	// Of the requests of a connection, so many heads are kept, and so many blocks of references that came to them.
	headsMax  = 32
	blocksMax = 64
	// keptMax bounds what is kept of one request: a head, or a block.
	headKeptMax  = 4 << 10
	blockKeptMax = 128
)

// headers reads the header blocks of a connection. It belongs to the connection's reader.
//
// Clients send most requests with headers that they sent before, as references to the table that both keep. A block of nothing but
// references means the same as long as the table does: it is found again by its bytes. All others are decoded, and their head is found by
// their fields, if there were the same ones before.
type headers struct {
	srv   *Server
	conn  context.Context
	dec   *hpack.Decoder
	cache map[string]request
	heads []*head
	next  int // the head that is replaced next

	// The block that is being decoded.
	fields    []hpack.HeaderField
	timeout   string
	timed     bool
	size      int
	invalid   bool
	truncated bool
	regular   bool // a field was seen that is no pseudo header
	pseudo    map[string]bool
}

// request is what one header block asks for.
type request struct {
	head    *head
	timeout time.Duration
	timed   bool
	// reset is how the stream ends at once, codeNo when it does not.
	reset code
}

func newHeaders(srv *Server, conn context.Context) *headers {
	h := &headers{srv: srv, conn: conn, cache: make(map[string]request), pseudo: make(map[string]bool)}
	h.dec = hpack.NewDecoder(tableBytes, h.emit)
	h.dec.SetMaxStringLength(headerListMax)
	return h
}

// read returns what a whole header block asks for. An error ends the connection. b is not kept.
func (h *headers) read(b []byte) (request, *brokenConn) {
	kind := scanBlock(b)
	if kind == scanIndexed {
		if r, ok := h.cache[string(b)]; ok {
			return r, nil
		}
	}
	if kind == scanChanging && len(h.cache) > 0 {
		clear(h.cache)
	}
	r, err := h.decode(b)
	if err == nil && kind == scanIndexed && len(b) <= blockKeptMax && r.head != nil && r.head.kept() {
		if len(h.cache) >= blocksMax {
			clear(h.cache)
		}
		h.cache[string(b)] = r
	}
	return r, err
}

// decode is read without the cache.
func (h *headers) decode(b []byte) (request, *brokenConn) {
	h.fields, h.timeout, h.timed, h.size = h.fields[:0], "", false, 0
	h.invalid, h.truncated, h.regular = false, false, false
	clear(h.pseudo)
	h.dec.SetEmitEnabled(true)
	_, err := h.dec.Write(b)
	if end := h.dec.Close(); err == nil {
		err = end
	}
	switch {
	case err != nil:
		return request{}, broken(codeCompression, "a header block that is malformed")
	case h.invalid:
		return request{reset: codeProtocol}, nil
	case h.truncated:
		return request{reset: codeFrameSize}, nil
	}
	r := h.resolve()
	if cap(h.fields) > headsMax {
		h.fields = nil
	}
	return r, nil
}

// pseudos are the pseudo headers that a request may have.
var pseudos = map[string]bool{":method": true, ":path": true, ":scheme": true, ":authority": true, ":protocol": true}

// emit takes a field. What is wrong with HTTP/2 itself makes the block invalid.
func (h *headers) emit(f hpack.HeaderField) {
	if strings.HasPrefix(f.Name, ":") {
		if h.regular || !pseudos[f.Name] || h.pseudo[f.Name] {
			h.invalid = true
		}
		h.pseudo[f.Name] = true
	} else {
		h.regular = true
		if !validName(f.Name) {
			h.invalid = true
		}
	}
	if !httpguts.ValidHeaderFieldValue(f.Value) {
		h.invalid = true
	}
	if h.size += int(f.Size()); h.size > headerListMax {
		h.truncated = true
	}
	switch {
	case h.invalid || h.truncated:
		h.dec.SetEmitEnabled(false)
	case f.Name == timeoutHeader: // the last one counts
		h.timeout, h.timed = f.Value, true
	default:
		h.fields = append(h.fields, f)
	}
}

// validName tells whether a header has a name that HTTP/2 allows.
func validName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return true
}

// resolve finds the head of the fields, or makes one.
func (h *headers) resolve() request {
	if h.timed {
		timeout, err := parseTimeout(h.timeout)
		if err != nil {
			// The whole is judged at once, and not kept.
			r := h.srv.readHead(h.conn, append(h.fields, hpack.HeaderField{Name: timeoutHeader, Value: h.timeout}))
			return request{head: &r.head}
		}
		return request{head: h.head(), timeout: timeout, timed: true}
	}
	return request{head: h.head()}
}

func (h *headers) head() *head {
	for _, known := range h.heads {
		if slices.Equal(known.fields, h.fields) {
			return known
		}
	}
	r := h.srv.readHead(h.conn, h.fields)
	made := &r.head
	if h.size > headKeptMax {
		return made
	}
	made.fields = slices.Clone(h.fields)
	if len(h.heads) < headsMax {
		h.heads = append(h.heads, made)
	} else {
		h.heads[h.next] = made
		h.next = (h.next + 1) % headsMax
	}
	return made
}

// kept tells whether the head is one of those that may be found again.
func (h *head) kept() bool { return h.fields != nil }
