package apply

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// nestingMax is how deep messages may stand in each other, the outermost counted: the limit of the protobuf library.
const nestingMax = protowire.DefaultRecursionLimit

// fields walks the fields of one encoded message. Every kind of value is consumed, so that unknown fields and known ones
// of another wire type are passed over, as the protobuf library does.
type fields struct {
	rest []byte
	// key is the field's number and wire type, as varint or message makes them.
	key uint64
	// n is the value of a varint; bytes that of a length-delimited field, aliasing the message.
	n     uint64
	bytes []byte
}

// varint is the key of a field of that number with a varint in it; message that of one with bytes.
func varint(num protowire.Number) uint64  { return protowire.EncodeTag(num, protowire.VarintType) }
func message(num protowire.Number) uint64 { return protowire.EncodeTag(num, protowire.BytesType) }

// next moves to the next field. ok is false at the end.
func (f *fields) next() (ok bool, err error) {
	if len(f.rest) == 0 {
		return false, nil
	}
	tag, w := consumeVarint(f.rest)
	if w < 0 {
		return false, malformed(w)
	}
	num, typ := tag>>3, protowire.Type(tag&7)
	if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return false, fmt.Errorf("%w: field number %d", ErrMalformed, num)
	}
	f.rest = f.rest[w:]
	f.key = tag
	switch typ {
	case protowire.VarintType:
		f.n, w = consumeVarint(f.rest)
	case protowire.BytesType:
		f.bytes, w = protowire.ConsumeBytes(f.rest)
	default:
		w = protowire.ConsumeFieldValue(protowire.Number(num), typ, f.rest)
	}
	if w < 0 {
		return false, malformed(w)
	}
	f.rest = f.rest[w:]
	return true, nil
}

func consumeVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

func malformed(w int) error { return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(w)) }

// text checks what a field of type string must hold.
func (f *fields) text() (string, error) {
	if !utf8.Valid(f.bytes) {
		return "", fmt.Errorf("%w: text that is not UTF-8", ErrMalformed)
	}
	return string(f.bytes), nil
}

func (f *fields) number() int64 { return int64(f.n) }

// enum cuts the number as the protobuf library does.
func (f *fields) enum() int32 { return int32(f.n) }

func (f *fields) flag() bool { return f.n != 0 }
