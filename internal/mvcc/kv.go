package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Field numbers of mvccpb.KeyValue, as tags on the wire.
const (
	tagKey            = 1<<3 | 2
	tagCreateRevision = 2 << 3
	tagModRevision    = 3 << 3
	tagVersion        = 4 << 3
	tagValue          = 5<<3 | 2
	tagLease          = 6 << 3
)

var errBadKeyValue = errors.New("malformed KeyValue")

// KV is one version of a key: the bytes of an mvccpb.KeyValue as on the wire, fields in the order of their numbers,
// zero ones left out. The zero KV is no version. It is never the stub of a large value (record). A KV aliases memory of whoever gave it out and is valid only as
// long as that says; all slices got from it alias it too and must not be changed.
type KV struct{ raw []byte }

// fields is a decoded KeyValue; its slices alias the encoding.
type fields struct {
	key, value           []byte
	create, mod, version int64
	lease                int64
}

// ParseKV checks that raw is the canonical encoding of an mvccpb.KeyValue and wraps it without copying.
func ParseKV(raw []byte) (KV, error) {
	f, err := parseFields(raw)
	if err != nil {
		return KV{}, err
	}
	if f.size() != len(raw) {
		return KV{}, fmt.Errorf("%w: not in canonical form", errBadKeyValue)
	}
	return KV{raw}, nil
}

// Exists tells whether this is a version at all, not the zero KV.
func (kv KV) Exists() bool { return kv.raw != nil }

// Raw returns the encoded mvccpb.KeyValue.
func (kv KV) Raw() []byte { return kv.raw }

// Key returns the key.
func (kv KV) Key() []byte { return kv.fields().key }

// Value returns the value, nil when it is empty.
func (kv KV) Value() []byte { return kv.fields().value }

// CreateRevision returns the revision that created the key in its present life.
func (kv KV) CreateRevision() int64 { return kv.fields().create }

// ModRevision returns the revision of this version.
func (kv KV) ModRevision() int64 { return kv.fields().mod }

// Version returns how many puts the key has had since its creation, this one included.
func (kv KV) Version() int64 { return kv.fields().version }

// Lease returns the id of the lease the key hangs on, 0 for none.
func (kv KV) Lease() int64 { return kv.fields().lease }

// AppendWithoutValue appends the encoding of kv without its value to dst. Without the lease, too, it is what etcd answers
// from its index, which knows neither.
func (kv KV) AppendWithoutValue(dst []byte, withLease bool) []byte {
	f := kv.fields()
	return f.appendWithoutValue(dst, withLease)
}

// Clone returns a copy of kv that aliases nothing.
func (kv KV) Clone() KV {
	if kv.raw == nil {
		return KV{}
	}
	return KV{append(make([]byte, 0, len(kv.raw)), kv.raw...)}
}

// fields decodes what the store has written itself (or checked on import). Should a byte in memory or on disk have
// changed in spite of the checksums, the fields before it are returned: the state hash finds such members.
func (kv KV) fields() fields {
	f, _ := parseFields(kv.raw)
	return f
}

// parseFields decodes an mvccpb.KeyValue whose fields come in the order of their numbers.
func parseFields(raw []byte) (f fields, err error) {
	for i, last := 0, byte(0); i < len(raw); {
		tag := raw[i]
		if tag <= last {
			return f, fmt.Errorf("%w: field tag %#x at byte %d", errBadKeyValue, tag, i)
		}
		last = tag
		n, w := uvarint(raw[i+1:])
		if w <= 0 {
			return f, fmt.Errorf("%w: number at byte %d", errBadKeyValue, i+1)
		}
		i += 1 + w
		switch tag {
		case tagKey, tagValue:
			if n > uint64(len(raw)-i) {
				return f, fmt.Errorf("%w: length %d at byte %d", errBadKeyValue, n, i)
			}
			part := raw[i : i+int(n) : i+int(n)]
			i += int(n)
			if tag == tagKey {
				f.key = part
			} else {
				f.value = part
			}
		case tagCreateRevision:
			f.create = int64(n)
		case tagModRevision:
			f.mod = int64(n)
		case tagVersion:
			f.version = int64(n)
		case tagLease:
			f.lease = int64(n)
		default:
			return f, fmt.Errorf("%w: field tag %#x at byte %d", errBadKeyValue, tag, i)
		}
	}
	return f, nil
}

// uvarint is binary.Uvarint with the short numbers, which are most, decoded in place.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// size returns the length of the encoding.
func (f *fields) size() int {
	n := bytesSize(len(f.key)) + bytesSize(len(f.value))
	return n + numberSize(f.create) + numberSize(f.mod) + numberSize(f.version) + numberSize(f.lease)
}

// append appends the encoding to dst. It is canonical: etcd's HashKV covers these bytes.
func (f *fields) append(dst []byte) []byte {
	dst = appendBytes(f.appendUpToValue(dst), tagValue, f.value)
	return appendNumber(dst, tagLease, f.lease)
}

func (f *fields) appendUpToValue(dst []byte) []byte {
	dst = appendBytes(dst, tagKey, f.key)
	dst = appendNumber(dst, tagCreateRevision, f.create)
	dst = appendNumber(dst, tagModRevision, f.mod)
	return appendNumber(dst, tagVersion, f.version)
}

// encodeLarge is append into memory of its own, which bytes.Join does not clear before: a fifth of what a value of 64 KiB costs here.
// REQUIRES: there is a value.
func (f *fields) encodeLarge() []byte {
	before := append(f.appendUpToValue(nil), tagValue)
	before = binary.AppendUvarint(before, uint64(len(f.value)))
	return bytes.Join([][]byte{before, f.value, appendNumber(nil, tagLease, f.lease)}, nil)
}

func (f *fields) appendWithoutValue(dst []byte, withLease bool) []byte {
	without := *f
	without.value = nil
	if !withLease {
		without.lease = 0
	}
	return without.append(dst)
}

func appendBytes(dst []byte, tag byte, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendNumber(dst []byte, tag byte, n int64) []byte {
	if n == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, tag), uint64(n))
}

func bytesSize(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + uvarintSize(uint64(n)) + n
}

func numberSize(n int64) int {
	if n == 0 {
		return 0
	}
	return 1 + uvarintSize(uint64(n))
}

func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }
