package h2

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// head is what the headers of a request come to, without their grpc-timeout. It is made once for all requests of a connection
// that have the same, and does not change.
type head struct {
	fields  []hpack.HeaderField
	ctx     context.Context // the connection's with the metadata
	path    string
	method  *method // nil when answer is set
	subtype string  // of the content type
	encoded string  // the compression of messages that the client announces

	// How the request is refused, if it is: at once, if it is not one of gRPC; when there is room for it, if its method is wrong; or
	// in place of a handler.
	malformed bool
	refusal   *refusal
	notPost   *refusal
	answer    *status.Status
	packer    encoding.Compressor // nil when messages are not compressed
}

// refusal is an answer without a call.
type refusal struct {
	http   int
	status *status.Status
}

const (
	timeoutHeader = "grpc-timeout"
	baseType      = "application/grpc"
	detailsHeader = "grpc-status-details-bin"
	binarySuffix  = "-bin"
)

// reserved are the headers that are no metadata, in both directions.
var reserved = map[string]bool{
	"content-type": true, "user-agent": true, "grpc-message-type": true, "grpc-encoding": true, "grpc-message": true,
	"grpc-status": true, timeoutHeader: true, "te": true,
}

func isReserved(name string) bool { return name != "" && name[0] == ':' || reserved[name] }

// subtypeOf returns what follows application/grpc in a content type, and whether it begins so.
func subtypeOf(contentType string) (string, bool) {
	rest, ok := strings.CutPrefix(contentType, baseType)
	switch {
	case !ok:
		return "", false
	case rest == "":
		return "", true
	case rest[0] == '+' || rest[0] == ';':
		return rest[1:], true
	}
	return "", false
}

// reading is a head that is being read.
type reading struct {
	head
	md          metadata.MD
	isGRPC      bool
	contentType string
	httpMethod  string
	wrong       *status.Status // what is wrong with a header
	timeout     time.Duration
	timed       bool
}

// readHead makes a head of fields that are well-formed HTTP/2. The decisions and their order are those of grpc-go's server.
func (s *Server) readHead(conn context.Context, fields []hpack.HeaderField) *reading {
	r := &reading{md: make(metadata.MD, len(fields))}
	for _, f := range fields {
		r.field(f.Name, f.Value)
	}
	r.judge()
	r.ctx = metadata.NewIncomingContext(conn, r.md)
	r.answer = s.find(&r.head)
	if r.httpMethod != http.MethodPost {
		r.notPost = &refusal{http.StatusMethodNotAllowed, status.Newf(codes.Internal,
			"Received a HEADERS frame with :method %q which should be POST", r.httpMethod)}
	}
	return r
}

func (r *reading) field(name, value string) {
	switch name {
	case "content-type":
		subtype, ok := subtypeOf(value)
		if !ok {
			r.contentType = value
			return
		}
		r.add(name, value)
		r.subtype, r.isGRPC = subtype, true
	case "grpc-encoding":
		r.encoded = value
	case ":method":
		r.httpMethod = value
	case ":path":
		r.path = value
	case timeoutHeader:
		timeout, err := parseTimeout(value)
		if err != nil {
			r.wrong = status.Newf(codes.Internal, "malformed grpc-timeout: %v", err)
		}
		r.timeout, r.timed = timeout, true
	case "connection":
		r.malformed = true
	default:
		if isReserved(name) && name != ":authority" && name != "user-agent" {
			return
		}
		v, err := decodeMetadata(name, value)
		if err != nil {
			r.wrong = status.Newf(codes.Internal, "malformed binary metadata %q in header %q: %v", value, name, err)
			return
		}
		r.add(name, v)
	}
}

func (r *reading) add(name, value string) { r.md[name] = append(r.md[name], value) }

// judge decides whether the request is refused, and settles its authority.
func (r *reading) judge() {
	authorities, hosts := len(r.md[":authority"]), len(r.md["host"])
	refuse := func(http int, st *status.Status) { r.refusal = &refusal{http, st} }
	switch {
	case authorities > 1 || hosts > 1:
		r.malformed = false // this comes first
		refuse(http.StatusBadRequest, status.Newf(codes.Internal,
			"num values of :authority: %v, num values of host: %v, both must only have 1 value as per HTTP/2 spec", authorities, hosts))
	case r.malformed:
	case !r.isGRPC:
		refuse(http.StatusUnsupportedMediaType, status.Newf(codes.InvalidArgument, "invalid gRPC request content-type %q", r.contentType))
	case r.wrong != nil:
		refuse(http.StatusBadRequest, r.wrong)
	case authorities == 0 && hosts == 0:
		refuse(http.StatusBadRequest, status.New(codes.Internal, "no host or :authority header present"))
	case authorities == 0:
		r.md[":authority"] = r.md["host"]
	}
	delete(r.md, "host")
}

// find looks up the method and the compression, and returns what is answered when either is not there.
func (s *Server) find(h *head) *status.Status {
	m, st := s.lookUp(h.path)
	if st != nil {
		return st
	}
	h.method = m
	if h.encoded != "" && h.encoded != encoding.Identity {
		if h.packer = encoding.GetCompressor(h.encoded); h.packer == nil {
			return status.Newf(codes.Unimplemented, "grpc: Decompressor is not installed for grpc-encoding %q", h.encoded)
		}
	}
	return nil
}

// lookUp returns the method of a path, or what is answered in its place.
func (s *Server) lookUp(path string) (*method, *status.Status) {
	if m := s.methods[path]; m != nil {
		return m, nil
	}
	name, ok := strings.CutPrefix(path, "/")
	at := strings.LastIndexByte(name, '/')
	if !ok || at < 0 {
		return nil, status.New(codes.Unimplemented, fmt.Sprintf("malformed method name: %q", path))
	}
	if _, known := s.infos[name[:at]]; !known {
		return nil, status.New(codes.Unimplemented, fmt.Sprintf("unknown service %v", name[:at]))
	}
	return nil, status.New(codes.Unimplemented, fmt.Sprintf("unknown method %v for service %v", name[at+1:], name[:at]))
}

// decodeMetadata returns the value of metadata that a header holds.
func decodeMetadata(name, value string) (string, error) {
	if !strings.HasSuffix(name, binarySuffix) {
		return value, nil
	}
	enc := base64.RawStdEncoding
	if len(value)%4 == 0 {
		enc = base64.StdEncoding
	}
	b, err := enc.DecodeString(value)
	return string(b), err
}

// encodeMetadata returns the header that holds a value of metadata.
func encodeMetadata(name, value string) string {
	if strings.HasSuffix(name, binarySuffix) {
		return base64.RawStdEncoding.EncodeToString([]byte(value))
	}
	return value
}
