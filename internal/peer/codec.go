package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	// messageBytesMax bounds one encoded message or entry, as in etcd.
	messageBytesMax = 512 << 20
	// readSlice is how much memory is taken at a time for what a sender says will come.
	readSlice = 1 << 20
	// keptBuffer is how large a buffer may be to be kept for the next message.
	keptBuffer = 1 << 20
)

// errMalformed is wrapped by errors that say: this is not what the protocol allows here.
var errMalformed = errors.New("peer: malformed message")

// encoder writes the messages of one stream; the result of append is dst, longer.
type encoder interface {
	append(dst []byte, m *raftpb.Message) ([]byte, error)
	appendHeartbeat(dst []byte) []byte
}

// decoder reads the messages of one stream. It returns nil for a link heartbeat.
type decoder interface {
	next() (*raftpb.Message, error)
}

// appendFramed appends a message behind its length.
func appendFramed(dst []byte, m *raftpb.Message) (_ []byte, err error) {
	at := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, 0)
	if isPlain(m) {
		dst = appendPlain(dst, m)
	} else if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst, m); err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	binary.BigEndian.PutUint64(dst[at:], uint64(len(dst)-at-8))
	return dst, nil
}

// frames reads what has its length in front.
type frames struct {
	r   io.Reader
	buf []byte
	memory
}

func (f *frames) number() (uint64, error) {
	f.buf = slices.Grow(f.buf[:0], 8)[:8]
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(f.buf), nil
}

// message reads one.
func (f *frames) message() (*raftpb.Message, error) {
	b, err := f.frame()
	if err != nil {
		return nil, err
	}
	defer f.trim()
	return f.decodeMessage(b)
}

// entry reads one.
func (f *frames) entry() (*raftpb.Entry, error) {
	b, err := f.frame()
	if err != nil {
		return nil, err
	}
	defer f.trim()
	return f.decodeEntry(b)
}

// frame reads what has its length in front. It takes memory as the bytes come, not on the word of the sender, and uses it again for the
// next one.
func (f *frames) frame() ([]byte, error) {
	n, err := f.number()
	if err != nil {
		return nil, err
	}
	if n > messageBytesMax {
		return nil, fmt.Errorf("%w: a length of %d bytes, the bound is %d", errMalformed, n, messageBytesMax)
	}
	f.buf = f.buf[:0]
	for left := int(n); left > 0; {
		step := min(left, readSlice)
		at := len(f.buf)
		f.buf = slices.Grow(f.buf, step)[:at+step]
		if _, err := io.ReadFull(f.r, f.buf[at:]); err != nil {
			return nil, noEOF(err)
		}
		left -= step
	}
	return f.buf, nil
}

// trim lets a large buffer go.
func (f *frames) trim() {
	if cap(f.buf) > keptBuffer {
		f.buf = nil
	}
}

// noEOF makes an early end of an end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// messageCodec is the encoding "message": each raftpb.Message behind its length. A link heartbeat is a MsgHeartbeat from and
// to nobody.
type messageCodec struct{ frames }

var linkHeartbeat = raftpb.Message{Type: raftpb.MsgHeartbeat.Enum()}

func isLinkHeartbeat(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0
}

func (c *messageCodec) append(dst []byte, m *raftpb.Message) ([]byte, error) {
	return appendFramed(dst, m)
}

func (c *messageCodec) appendHeartbeat(dst []byte) []byte {
	dst, _ = appendFramed(dst, &linkHeartbeat) // plain data: it cannot fail
	return dst
}

func (c *messageCodec) next() (*raftpb.Message, error) {
	m, err := c.message()
	if err != nil || isLinkHeartbeat(m) {
		return nil, err
	}
	return m, nil
}
