package kube

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/yaml"
)

// ErrNotKubernetes is returned for a value that Kubernetes did not write, or wrote encrypted.
var ErrNotKubernetes = errors.New("not a value of Kubernetes")

var (
	magic     = []byte("k8s\x00")
	encrypted = []byte("k8s:enc:")
)

// valueBytesMax is the largest value that is decoded; a store of Kubernetes has none as large.
const valueBytesMax = 16 << 20

// yamlBytesMax is the most that the indentation of JSON may take as YAML: each of its values stands in a line of its own, and a value may
// nest thousands deep.
const yamlBytesMax = 64 << 20

// indented returns about how many bytes the indentation of valid JSON takes as YAML.
func indented(b []byte) (n int) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
			n += 2 * depth
		case c == ',':
			n += 2 * depth
		case c == '}', c == ']':
			depth--
		}
	}
	return n
}

// YAML returns a value that the API server stored, as YAML: protobuf in its envelope, or JSON. It is safe for any bytes.
func YAML(value []byte) (string, error) {
	switch {
	case len(value) > valueBytesMax:
		return "", fmt.Errorf("%w: %d bytes are too many", ErrNotKubernetes, len(value))
	case bytes.HasPrefix(value, encrypted):
		return "", fmt.Errorf("%w that can be read: it is encrypted at rest", ErrNotKubernetes)
	case bytes.HasPrefix(value, magic):
		return envelope(value[len(magic):])
	case len(value) > 0 && value[0] == '{' && json.Valid(value):
		if n := indented(value); n > yamlBytesMax {
			return "", fmt.Errorf("%w: as YAML its JSON would take %d bytes for indentation alone", ErrNotKubernetes, n)
		}
		text, err := yaml.JSONToYAML(value)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNotKubernetes, err)
		}
		return string(text), nil
	}
	return "", ErrNotKubernetes
}

// envelope reads a runtime.Unknown.
func envelope(b []byte) (string, error) {
	fields, err := split(b)
	if err != nil {
		return "", fmt.Errorf("%w: the envelope: %w", ErrNotKubernetes, err)
	}
	var apiVersion, kindName, encoding, content string
	var body []byte
	for _, f := range fields {
		if f.kind != protowire.BytesType {
			continue
		}
		switch f.number {
		case unknownTypeMeta:
			types, err := split(f.bytes)
			if err != nil {
				return "", fmt.Errorf("%w: the type: %w", ErrNotKubernetes, err)
			}
			for _, t := range types {
				switch t.number {
				case 1:
					apiVersion = string(t.bytes)
				case 2:
					kindName = string(t.bytes)
				}
			}
		case unknownRaw:
			body = f.bytes
		case unknownContentEncoding:
			encoding = string(f.bytes)
		case unknownContentType:
			content = string(f.bytes)
		}
	}
	head := []entry{{"apiVersion", apiVersion}, {"kind", kindName}}
	if encoding != "" || content != "" { // not protobuf: whatever it is, it is shown as it is
		head = append(head, entry{"contentEncoding", encoding}, entry{"contentType", content}, entry{"raw", opaque(body)})
		return render(head), nil
	}
	object, err := decode(body, schemaOf(apiVersion, kindName), 0)
	if err != nil {
		return "", fmt.Errorf("%w: the object: %w", ErrNotKubernetes, err)
	}
	return render(append(head, object.entries...)), nil
}

// node is a message in the order of its fields; its values are string, int64, uint64, float64, bool, *node or list.
type node struct {
	entries []entry
	places  map[string]int // where names stand, once there are many: a hostile message has millions
}

type entry struct {
	name  string
	value any
}

type list []any

// at returns where the value of a name is, nil when there is none.
func (n *node) at(name string) *any {
	if i, ok := n.places[name]; ok {
		return &n.entries[i].value
	}
	for i := range n.entries[:min(len(n.entries), fewEntries)] {
		if n.entries[i].name == name {
			return &n.entries[i].value
		}
	}
	return nil
}

// fewEntries are found as fast without places.
const fewEntries = 8

// add adds an entry of a name that is new.
func (n *node) add(name string, value any) {
	if len(n.entries) >= fewEntries {
		if n.places == nil {
			n.places = make(map[string]int)
		}
		n.places[name] = len(n.entries)
	}
	n.entries = append(n.entries, entry{name, value})
}

// put adds a value. A second one of the same name makes a list of both.
func (n *node) put(name string, value any, many bool) {
	if old := n.at(name); old != nil {
		if l, ok := (*old).(list); ok {
			*old = append(l, value)
		} else {
			*old = list{*old, value}
		}
		return
	}
	if many {
		value = list{value}
	}
	n.add(name, value)
}

// opaque shows bytes that have no better form.
func opaque(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func decode(b []byte, s schema, depth int) (*node, error) {
	fields, err := split(b)
	if err != nil {
		return nil, err
	}
	if depth > nestingMax {
		return nil, fmt.Errorf("%w: messages nest deeper than %d", errNotMessage, nestingMax)
	}
	out := &node{}
	for _, f := range fields {
		spec, known := s[f.number]
		if !known {
			spec = field{name: fmt.Sprintf("field%d", f.number)}
		}
		if spec.pairs && out.putPair(spec, f.bytes, depth) {
			continue
		}
		value := spec.read(f, depth)
		if inner, ok := value.(*node); ok && spec.inline {
			for _, e := range inner.entries {
				out.put(e.name, e.value, false)
			}
			continue
		}
		if spec.inline { // it is no message
			spec.name = fmt.Sprintf("field%d", f.number)
		}
		if value == nil || spec.optional && !spec.many && isZero(value) {
			continue
		}
		out.put(spec.name, value, spec.many)
	}
	return out, nil
}

// isZero tells whether JSON leaves a value out that may be.
func isZero(value any) bool {
	return value == "" || value == int64(0) || value == false || value == float64(0)
}

// putPair adds an entry of a map. ok is false when it is none.
func (n *node) putPair(spec field, b []byte, depth int) (ok bool) {
	fields, err := split(b)
	if err != nil {
		return false
	}
	key, value := "", any("")
	for _, f := range fields {
		switch {
		case f.number == 1 && f.kind == protowire.BytesType:
			key = string(f.bytes)
		case f.number == 2:
			value = spec.read(f, depth+1)
		default:
			return false
		}
	}
	old := n.at(spec.name)
	if old == nil {
		n.add(spec.name, &node{})
		old = n.at(spec.name)
	}
	in, ok := (*old).(*node)
	if ok {
		in.set(key, value)
	}
	return ok
}

// set replaces or adds an entry, as the last one counts in a map.
func (n *node) set(key string, value any) {
	if old := n.at(key); old != nil {
		*old = value
		return
	}
	n.add(key, value)
}

// read returns the value of a field, nil for a time that is not set. Bytes that are not what the schema says are shown for
// what they look like.
func (s field) read(f wireField, depth int) any {
	if f.kind != protowire.BytesType {
		switch {
		case s.kind == boolean && f.value <= 1:
			return f.value == 1
		case s.kind == float && f.kind == protowire.Fixed64Type:
			return math.Float64frombits(f.value)
		case f.kind == protowire.VarintType:
			return int64(f.value)
		}
		return f.value
	}
	if s.kind == message {
		if n, err := decode(f.bytes, schemas()[s.message], depth+1); err == nil {
			return n
		}
	} else if value, ok := s.kind.value(f.bytes); ok {
		return value
	}
	if s.kind == guess && looksLikeMessage(f.bytes) {
		if n, err := decode(f.bytes, nil, depth+1); err == nil {
			return n
		}
	}
	if s.kind == guess && isText(f.bytes) {
		return string(f.bytes)
	}
	return opaque(f.bytes)
}
