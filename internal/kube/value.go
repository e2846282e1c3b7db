package kube

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// value reads bytes of a kind that is no message of named fields. ok is false when they are not of that kind.
func (k kind) value(b []byte) (value any, ok bool) {
	switch k {
	case text:
		return string(b), isText(b)
	case moment:
		return timestamp(b)
	case span:
		f, ok := small(b, protowire.VarintType)
		return time.Duration(int64(f[1].value)).String(), ok
	case quantity:
		f, ok := small(b, protowire.BytesType)
		return string(f[1].bytes), ok && isText(f[1].bytes)
	case document:
		f, ok := small(b, protowire.BytesType)
		return string(f[1].bytes), ok && isText(f[1].bytes)
	case numberOrText:
		f, ok := small(b, protowire.VarintType)
		if f[1].value == 0 {
			return int64(f[2].value), ok
		}
		return string(f[3].bytes), ok && isText(f[3].bytes)
	}
	return nil, false
}

// small reads a message that has only fields 1 to 3. The first must be of that type when it is there.
func small(b []byte, first protowire.Type) (fields [4]wireField, ok bool) {
	found, err := split(b)
	if err != nil {
		return fields, false
	}
	for _, f := range found {
		if f.number < 1 || f.number > 3 || f.number == 1 && f.kind != first {
			return fields, false
		}
		fields[f.number] = f
	}
	return fields, true
}

// timestamp reads seconds and nanoseconds since 1970; nothing at all is a time that is not set, nil.
func timestamp(b []byte) (value any, ok bool) {
	if len(b) == 0 {
		return nil, true
	}
	f, ok := small(b, protowire.VarintType)
	seconds, nanos := int64(f[1].value), int64(f[2].value)
	const lastSecond = 253402300799 // of the year 9999
	if !ok || f[2].kind != protowire.VarintType || seconds < -lastSecond || seconds > lastSecond || nanos < 0 || nanos > 999999999 {
		return "", false
	}
	return time.Unix(seconds, nanos).UTC().Format(time.RFC3339Nano), true
}
