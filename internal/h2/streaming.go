package h2

import (
	"context"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// serverStream is what handlers of streaming calls see. As in gRPC, one goroutine at a time may send, and one receive.
type serverStream struct {
	s     *stream
	taken int // messages
}

var _ grpc.ServerStream = (*serverStream)(nil)

// serveStream runs the handler of a streaming call.
func (s *stream) serveStream() {
	m, ss := s.head.method, &serverStream{s: s}
	var err error
	if in := s.c.srv.o.Stream; in != nil {
		err = in(m.impl, ss, &grpc.StreamServerInfo{
			FullMethod: m.path, IsClientStream: m.stream.ClientStreams, IsServerStream: m.stream.ServerStreams,
		}, m.stream.Handler)
	} else {
		err = m.stream.Handler(m.impl, ss)
	}
	st := okStatus
	if err != nil {
		st = toStatus(err)
	}
	s.finish(st)
	s.c.mu.Lock()
	s.c.served(s)
	s.c.mu.Unlock()
}

// Context implements grpc.ServerStream.
func (ss *serverStream) Context() context.Context { return ss.s }

// SetHeader implements grpc.ServerStream.
func (ss *serverStream) SetHeader(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	if err := validate(md); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return ss.s.SetHeader(md)
}

// SendHeader implements grpc.ServerStream.
func (ss *serverStream) SendHeader(md metadata.MD) error {
	if err := validate(md); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return ss.s.SendHeader(md)
}

// SetTrailer implements grpc.ServerStream.
func (ss *serverStream) SetTrailer(md metadata.MD) { _ = ss.s.SetTrailer(md) } // the call is over

// Appender is a message that a handler sends on a stream and that can be encoded where it is written from. The codec does not see it then; where that
// cannot be, as when the client is behind or the answer is compressed, it is encoded by the codec, as any other.
type Appender interface {
	// Length returns how long the encoded message is.
	Length() int
	// AppendTo appends the encoded message to dst. It is called at most once, while the connection is locked.
	AppendTo(dst []byte) []byte
}

// SendMsg implements grpc.ServerStream. It waits while writeQuota bytes are queued.
func (ss *serverStream) SendMsg(v any) error {
	s := ss.s
	if m, ok := v.(Appender); ok && s.sendAtOnce(m) {
		return nil
	}
	flag, data, err := s.encode(v)
	if err != nil {
		s.finish(toStatus(err))
		return err
	}
	c := s.c
	c.mu.Lock()
	switch {
	case s.gone || s.over:
		err = s.goneError()
	case !c.begin(s):
		err = errListTooLong
	}
	for err == nil && s.quota <= 0 {
		s.awaitQuota()
		if s.gone || s.over {
			err = s.goneError()
		}
	}
	if err == nil {
		c.send(s, flag, data)
		c.kick()
	} else {
		data.Free()
	}
	c.mu.Unlock()
	if err != nil {
		s.finish(toStatus(err))
	}
	return err
}

// sendAtOnce sends a message if the headers are sent, and nothing has to wait.
func (s *stream) sendAtOnce(m Appender) bool {
	if s.head.packer != nil {
		return false
	}
	n, c := m.Length(), s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || s.over || !s.begun || !c.direct(s, prefixBytes+n) {
		return false
	}
	out := c.open(s, plainMessage, n)
	c.out = m.AppendTo(out)
	invariant.Check(len(c.out) == len(out)+n, "a message of %d bytes was to have %d", len(c.out)-len(out), n)
	c.kick()
	return true
}

// RecvMsg implements grpc.ServerStream.
func (ss *serverStream) RecvMsg(v any) error {
	err := ss.receive(v)
	if err != nil && err != io.EOF {
		ss.s.finish(toStatus(err))
	}
	return err
}

func (ss *serverStream) receive(v any) error {
	m, err := ss.s.nextMessage()
	clients := ss.s.head.method.stream.ClientStreams
	if err == io.EOF && !clients && ss.taken == 0 {
		return status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")
	}
	if err != nil {
		return err
	}
	if err := ss.s.decode(m, v); err != nil {
		return err
	}
	ss.taken++
	if clients {
		return nil
	}
	// The one request has to be followed by the end.
	more, err := ss.s.nextMessage()
	switch {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	}
	more.data.Free()
	return status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC")
}

// nextMessage waits for the next message of a streaming call.
func (s *stream) nextMessage() (message, error) {
	c := s.c
	c.mu.Lock()
	for {
		switch {
		case s.gone || s.over:
			err := contextError(s.Err())
			c.mu.Unlock()
			return message{}, err
		case len(s.inbox) > 0:
			m := s.inbox[0]
			s.inbox[0] = message{}
			if s.inbox = s.inbox[1:]; len(s.inbox) == 0 {
				s.inbox = nil
			}
			s.held -= int64(m.size)
			c.grant(s)
			c.kick()
			c.mu.Unlock()
			return m, nil
		case s.fault != nil:
			err := s.fault
			c.mu.Unlock()
			return message{}, err
		}
		c.mu.Unlock()
		<-s.mayTake
		c.mu.Lock()
	}
}

// validate tells what is wrong with metadata, in the words of grpc-go.
func validate(md metadata.MD) error {
	for name, values := range md {
		if name == "" {
			return fmt.Errorf("there is an empty key in the header")
		}
		if name[0] == ':' {
			continue
		}
		for i := range len(name) {
			if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
				return fmt.Errorf("header key %q contains illegal characters not in [0-9a-z-_.]", name)
			}
		}
		if strings.HasSuffix(name, binarySuffix) {
			continue
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				return fmt.Errorf("header key %q contains value with non-printable ASCII characters", name)
			}
		}
	}
	return nil
}
