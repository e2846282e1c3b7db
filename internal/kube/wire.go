package kube

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// nestingMax bounds how deep messages are followed; deeper ones are shown as bytes.
const nestingMax = 32

var errNotMessage = errors.New("not a protobuf message")

// wireField is one field as it stands in a message.
type wireField struct {
	number int32
	kind   protowire.Type
	value  uint64 // of a varint or a fixed number
	bytes  []byte
}

// split takes a message apart. Every byte must belong to a field.
func split(b []byte) ([]wireField, error) {
	var out []wireField
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errNotMessage
		}
		b = b[n:]
		f := wireField{number: int32(number), kind: kind}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.value = uint64(v)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default: // groups are not used
			return nil, fmt.Errorf("%w: wire type %d", errNotMessage, kind)
		}
		if n < 0 {
			return nil, errNotMessage
		}
		b = b[n:]
		out = append(out, f)
	}
	return out, nil
}

// isText tells whether b can be shown as it is.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// looksLikeMessage tells whether bytes of an unknown field are rather a message than a text. A text that happens to be
// a message is taken for a text, unless it begins with a line break: that is how a message with a short first
// field begins, and a text hardly ever.
func looksLikeMessage(b []byte) bool {
	if len(b) == 0 || (isText(b) && b[0] != '\n') {
		return false
	}
	_, err := split(b)
	return err == nil
}
