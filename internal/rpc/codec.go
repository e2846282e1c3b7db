package rpc

import (
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto" // also registers the codec that ours falls back to
	"google.golang.org/grpc/mem"
)

// codec is the codec of a server: Requests, Responses and watch responses pass as bytes, all else through gRPC's own codec. It has
// the name of that codec, so clients see no difference.
type codec struct {
	rest     encoding.CodecV2
	measures *Measures
}

func newCodec(m *Measures) codec { return codec{encoding.GetCodecV2(grpcproto.Name), m} }

// Name implements encoding.CodecV2.
func (c codec) Name() string { return grpcproto.Name }

// Marshal implements encoding.CodecV2. A response is empty afterwards.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := c.encode(v)
	if _, counted := v.(*watchResponse); !counted {
		c.measures.BytesSent.Add(uint64(data.Len()))
	}
	return data, err
}

func (c codec) encode(v any) (mem.BufferSlice, error) {
	switch r := v.(type) {
	case *Response:
		return r.take(), nil
	case *watchResponse:
		return r.take(), nil
	case *blob:
		return r.take(), nil
	default:
		return c.rest.Marshal(v)
	}
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, twice := v.(*late); !twice {
		c.measures.BytesReceived.Add(uint64(data.Len()))
	}
	switch v := v.(type) {
	case *late:
		v.err = c.Unmarshal(data, v.message)
		return nil
	case *Request:
		return v.take(data)
	default:
		return c.rest.Unmarshal(data, v)
	}
}
