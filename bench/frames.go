package main

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// frameHeaderBytes is the length of the header of an HTTP/2 frame; the stream's number is its last four bytes.
const frameHeaderBytes = 9

// messageHeaderBytes is the length of the header of a gRPC message.
const messageHeaderBytes = 5

// framesBytesMax is what fits into one frame of the size that every peer accepts, less the header of the gRPC message.
const framesBytesMax = 16<<10 - messageHeaderBytes

// request is a gRPC call as it goes over the wire, but for the number of its stream.
type request struct {
	frames []byte
	second int // where the second frame, the message, begins
	flow   int // bytes that count for flow control
}

// prepared are the requests of one method, to be sent over and over. first opens a connection: it fills the table of header
// fields, to which the others refer.
type prepared struct {
	first    request
	requests []request
	// answerBytesMin is how long the message of a right answer is at least.
	answerBytesMin int
}

// prepare builds requests out of messages.
func prepare(method, authority string, tls bool, answerBytesMin int, messages []proto.Message) (*prepared, error) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := func() ([]byte, error) {
		block.Reset()
		scheme := "http"
		if tls {
			scheme = "https"
		}
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", scheme}, {":path", method}, {":authority", authority},
			{"content-type", "application/grpc"}, {"user-agent", "bench"}, {"te", "trailers"},
		} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return nil, fmt.Errorf("encoding the header: %w", err)
			}
		}
		return bytes.Clone(block.Bytes()), nil
	}
	opening, err := fields()
	if err != nil {
		return nil, err
	}
	following, err := fields()
	if err != nil {
		return nil, err
	}
	p := &prepared{answerBytesMin: answerBytesMin}
	for i, m := range messages {
		body, err := message(m)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if p.first, err = newRequest(opening, body); err != nil {
				return nil, err
			}
		}
		r, err := newRequest(following, body)
		if err != nil {
			return nil, err
		}
		p.requests = append(p.requests, r)
	}
	return p, nil
}

// message is a protobuf message with gRPC's header.
func message(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	if len(b) > framesBytesMax {
		return nil, fmt.Errorf("encoding a request: %d bytes do not fit into one frame", len(b))
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...), nil
}

func newRequest(fields, body []byte) (request, error) {
	var out bytes.Buffer
	f := http2.NewFramer(&out, nil)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields, EndHeaders: true}); err != nil {
		return request{}, fmt.Errorf("building a frame: %w", err)
	}
	second := out.Len()
	if err := f.WriteData(1, true, body); err != nil {
		return request{}, fmt.Errorf("building a frame: %w", err)
	}
	return request{bytes.Clone(out.Bytes()), second, len(body)}, nil
}

// appendTo appends the request as that of a stream.
func (r *request) appendTo(out []byte, stream uint32) []byte {
	begin := len(out)
	out = append(out, r.frames...)
	binary.BigEndian.PutUint32(out[begin+frameHeaderBytes-4:], stream)
	binary.BigEndian.PutUint32(out[begin+r.second+frameHeaderBytes-4:], stream)
	return out
}
