package h2

import (
	"io"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// What the first byte of a message says.
const (
	plainMessage  = 0
	packedMessage = 1
)

// decode reads a message into v. It frees the message. The errors are grpc-go's.
func (s *stream) decode(m message, v any) error {
	data, err := s.unpack(m)
	if err != nil {
		return err
	}
	defer data.Free()
	if err := s.c.srv.o.Codec.Unmarshal(data, v); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// unpack returns the bytes of a message as they were encoded.
func (s *stream) unpack(m message) (mem.BufferSlice, error) {
	h := s.head
	if m.flag == plainMessage {
		return m.data, nil
	}
	defer m.data.Free()
	switch {
	case m.flag != packedMessage:
		return nil, status.Errorf(codes.Internal, "grpc: received unexpected payload format %d", m.flag)
	case h.encoded == "" || h.encoded == encoding.Identity:
		return nil, status.Error(codes.Internal, "grpc: compressed flag set with identity or empty encoding")
	}
	limit := int64(s.c.srv.o.MaxRecvBytes)
	in := m.data.Reader()
	defer in.Close()
	r, err := h.packer.Decompress(in)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: failed to decompress the message: %v", err)
	}
	if closer, ok := r.(io.Closer); ok {
		defer closer.Close()
	}
	out, err := mem.ReadAll(io.LimitReader(r, limit+1), s.c.srv.o.Buffers)
	if err != nil {
		out.Free()
		return nil, status.Errorf(codes.Internal, "grpc: failed to read decompressed data: %v", err)
	}
	if int64(out.Len()) > limit {
		out.Free()
		return nil, status.Errorf(codes.ResourceExhausted, "grpc: received message after decompression larger than max %d", limit)
	}
	return out, nil
}

// encode returns v as it is sent.
func (s *stream) encode(v any) (flag byte, data mem.BufferSlice, err error) {
	if v == nil {
		return plainMessage, nil, nil
	}
	data, err = s.c.srv.o.Codec.Marshal(v)
	if err != nil {
		return 0, nil, status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err.Error())
	}
	if packer := s.head.packer; packer != nil && data.Len() > 0 {
		plain := data
		data, err = pack(packer, plain, s.c.srv.o.Buffers)
		plain.Free()
		if err != nil {
			return 0, nil, status.Errorf(codes.Internal, "grpc: error while compressing: %v", err.Error())
		}
		flag = packedMessage
	}
	if n := data.Len(); n > math.MaxInt32 {
		data.Free()
		return 0, nil, status.Errorf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", n, math.MaxInt32)
	}
	return flag, data, nil
}

func pack(packer encoding.Compressor, data mem.BufferSlice, pool mem.BufferPool) (out mem.BufferSlice, err error) {
	defer func() {
		if err != nil {
			out.Free()
		}
	}()
	z, err := packer.Compress(mem.NewWriter(&out, pool))
	if err != nil {
		return out, err
	}
	for _, b := range data {
		if _, err := z.Write(b.ReadOnlyData()); err != nil {
			return out, err
		}
	}
	return out, z.Close()
}
