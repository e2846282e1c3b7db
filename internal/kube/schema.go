package kube

import (
	_ "embed" // names.txt
	"strconv"
	"strings"
	"sync"
)

// kind tells how the bytes of a field are read.
type kind int

const (
	guess        kind = iota // from the bytes
	text                     // a string
	raw                      // bytes, shown in base64
	number                   // a signed varint
	boolean                  // a varint
	float                    // a double
	message                  // a nested message
	moment                   // metav1.Time or MicroTime
	span                     // metav1.Duration
	quantity                 // resource.Quantity, a string in a message
	numberOrText             // intstr.IntOrString
	document                 // JSON in a message of its own: FieldsV1, RawExtension
)

var kindNames = map[string]kind{"guess": guess, "text": text, "bytes": raw, "int": number, "bool": boolean, "float": float,
	"time": moment, "duration": span, "quantity": quantity, "intorstring": numberOrText, "json": document}

// field is one field of a schema.
type field struct {
	name     string
	kind     kind
	many     bool   // a list, also when there is one
	pairs    bool   // an entry of a map, whose values are of the kind
	optional bool   // left out when it is zero, as in JSON
	inline   bool   // in JSON its fields stand beside it
	message  string // the schema's name
}

// schema names the fields of a message by their numbers.
type schema map[int32]field

//go:embed names.txt
var names string

// schemas returns all schemas by name. They are read when the first value is.
var schemas = sync.OnceValue(func() map[string]schema { return parseNames(names) })

// parseNames reads names.txt, which is a part of the program.
func parseNames(text string) map[string]schema {
	out := map[string]schema{}
	var now schema
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case len(words) == 1:
			now = schema{}
			out[words[0]] = now
		case len(words) == 3:
			n, err := strconv.ParseInt(words[0], 10, 32)
			if err == nil {
				now[int32(n)] = parseField(words[1], words[2])
			}
		}
	}
	return out
}

func parseField(name, form string) field {
	f := field{name: name, inline: name == "-"}
	form, f.optional = strings.CutSuffix(form, "?")
	form, f.many = strings.CutPrefix(form, "[]")
	form, f.pairs = strings.CutPrefix(form, "map:")
	known := false
	if f.kind, known = kindNames[form]; !known {
		f.kind, f.message = message, form
	}
	return f
}

// schemaOf returns the schema of an object. Of what is not known the metadata is: it is the first field of every object.
func schemaOf(apiVersion, kind string) schema {
	group, version, ok := strings.Cut(apiVersion, "/")
	if !ok {
		group, version = "core", apiVersion
	}
	group, _, _ = strings.Cut(group, ".")
	if s, ok := schemas()[group+"."+version+"."+kind]; ok {
		return s
	}
	return schema{1: {name: "metadata", kind: message, message: "meta.v1.ObjectMeta"}}
}

// unknown is runtime.Unknown, the envelope's message.
const (
	unknownTypeMeta        = 1
	unknownRaw             = 2
	unknownContentEncoding = 3
	unknownContentType     = 4
)
