package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decode reads a recorded request. Those of the gateway are JSON as it was sent. In others bytes are a text with \xNN in it,
// or {"repeat": text, "times": n}, and numbers are plain.
func decode(raw json.RawMessage, m proto.Message, gateway bool) error {
	if gateway {
		return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(raw, m)
	}
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		return err
	}
	return fill(m.ProtoReflect(), tree)
}

// fill sets the fields of a message.
func fill(m protoreflect.Message, tree map[string]any) error {
	for name, v := range tree {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return fmt.Errorf("no field %s in %s", name, m.Descriptor().Name())
		}
		values, list := v.([]any)
		if list != f.IsList() {
			return fmt.Errorf("%s: one value or many", name)
		}
		if !list {
			x, err := fieldValue(f, v, func() protoreflect.Value { return m.NewField(f) })
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			m.Set(f, x)
			continue
		}
		l := m.Mutable(f).List()
		for _, v := range values {
			x, err := fieldValue(f, v, l.NewElement)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			l.Append(x)
		}
	}
	return nil
}

// fieldValue is one value of a field; empty makes the empty message that it may be.
func fieldValue(f protoreflect.FieldDescriptor, v any, empty func() protoreflect.Value) (x protoreflect.Value, err error) {
	text := fmt.Sprint(v)
	switch f.Kind() {
	case protoreflect.MessageKind:
		tree, ok := v.(map[string]any)
		if !ok {
			return x, fmt.Errorf("%v is no message", v)
		}
		x = empty()
		return x, fill(x.Message(), tree)
	case protoreflect.BytesKind:
		b, err := textBytes(v)
		return protoreflect.ValueOfBytes(b), err
	case protoreflect.StringKind:
		b, err := textBytes(v)
		return protoreflect.ValueOfString(string(b)), err
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(text)
		return protoreflect.ValueOfBool(b), err
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByName(protoreflect.Name(text)); e != nil {
			return protoreflect.ValueOfEnum(e.Number()), nil
		}
		n, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), err
	case protoreflect.Int64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), err
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(n), err
	}
	return x, fmt.Errorf("a field of kind %s", f.Kind())
}

// textBytes is what a text, a number or a repetition stands for.
func textBytes(v any) ([]byte, error) {
	if r, ok := v.(map[string]any); ok {
		unit, err := textBytes(r["repeat"])
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(fmt.Sprint(r["times"]))
		return bytes.Repeat(unit, max(0, n)), err
	}
	text := fmt.Sprint(v)
	if !strings.Contains(text, `\`) {
		return []byte(text), nil
	}
	var out []byte
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, `\\`):
			out, text = append(out, '\\'), text[2:]
		case strings.HasPrefix(text, `\x`) && len(text) >= 4:
			n, err := strconv.ParseUint(text[2:4], 16, 8)
			if err != nil {
				return nil, err
			}
			out, text = append(out, byte(n)), text[4:]
		default:
			out, text = append(out, text[0]), text[1:]
		}
	}
	return out, nil
}
