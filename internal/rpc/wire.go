package rpc

import (
	"encoding/binary"
)

// Wire types of the protobuf encoding.
const (
	wireVarint = 0
	wireBytes  = 2
)

// appendNumber appends a field that holds a number, unless it is 0.
func appendNumber(dst []byte, field uint32, n uint64) []byte {
	if n == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(field)<<3|wireVarint)
	return binary.AppendUvarint(dst, n)
}

// appendBytesHead appends tag and length of a bytes or message field of n bytes.
func appendBytesHead(dst []byte, field uint32, n int) []byte {
	dst = binary.AppendUvarint(dst, uint64(field)<<3|wireBytes)
	return binary.AppendUvarint(dst, uint64(n))
}

// header is what every response header says.
type header struct {
	cluster, member uint64
	revision        int64
	term            uint64
}

// append appends the header as field 1 of a response.
func (h header) append(dst []byte) []byte {
	dst = append(dst, 1<<3|wireBytes, 0)
	at := len(dst)
	dst = appendNumber(dst, 1, h.cluster)
	dst = appendNumber(dst, 2, h.member)
	dst = appendNumber(dst, 3, uint64(h.revision))
	dst = appendNumber(dst, 4, h.term)
	dst[at-1] = byte(len(dst) - at) // at most 44
	return dst
}
