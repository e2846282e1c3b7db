package kube

// kind tells how the bytes of a field are read.
type kind int

const (
	guess    kind = iota // from the bytes
	text                 // a string
	raw                  // bytes, shown in base64
	number               // a signed varint
	boolean              // a varint
	message              // a nested message
	pairs                // an entry of a map of strings
	binaries             // an entry of a map of strings to bytes
	moment               // metav1.Time or MicroTime
	document             // JSON in a message of its own: FieldsV1
)

// field is one field of a schema.
type field struct {
	name   string
	kind   kind
	many   bool // a list, also when there is one
	schema schema
}

// schema names the fields of a message by their numbers.
type schema map[int32]field

var ownerReference = schema{1: {name: "kind", kind: text}, 3: {name: "name", kind: text}, 4: {name: "uid", kind: text},
	5: {name: "apiVersion", kind: text}, 6: {name: "controller", kind: boolean}, 7: {name: "blockOwnerDeletion", kind: boolean}}

var managedField = schema{1: {name: "manager", kind: text}, 2: {name: "operation", kind: text}, 3: {name: "apiVersion", kind: text},
	4: {name: "time", kind: moment}, 6: {name: "fieldsType", kind: text}, 7: {name: "fieldsV1", kind: document},
	8: {name: "subresource", kind: text}}

// objectMeta is metav1.ObjectMeta, which is the first field of every object that is stored.
var objectMeta = schema{
	1: {name: "name", kind: text}, 2: {name: "generateName", kind: text}, 3: {name: "namespace", kind: text},
	4: {name: "selfLink", kind: text}, 5: {name: "uid", kind: text}, 6: {name: "resourceVersion", kind: text},
	7: {name: "generation", kind: number}, 8: {name: "creationTimestamp", kind: moment}, 9: {name: "deletionTimestamp", kind: moment},
	10: {name: "deletionGracePeriodSeconds", kind: number}, 11: {name: "labels", kind: pairs}, 12: {name: "annotations", kind: pairs},
	13: {name: "ownerReferences", kind: message, many: true, schema: ownerReference},
	14: {name: "finalizers", kind: text, many: true}, 15: {name: "clusterName", kind: text},
	17: {name: "managedFields", kind: message, many: true, schema: managedField},
}

var metadata = field{name: "metadata", kind: message, schema: objectMeta}

var anyObject = schema{1: metadata}

// bodies are the kinds whose fields are known, by apiVersion and kind.
var bodies = map[string]schema{
	"v1 ConfigMap": {1: metadata, 2: {name: "data", kind: pairs}, 3: {name: "binaryData", kind: binaries}, 4: {name: "immutable", kind: boolean}},
	"v1 Secret": {1: metadata, 2: {name: "data", kind: binaries}, 3: {name: "type", kind: text}, 4: {name: "stringData", kind: pairs},
		5: {name: "immutable", kind: boolean}},
	"v1 Namespace": {1: metadata, 2: {name: "spec", kind: message, schema: schema{1: {name: "finalizers", kind: text, many: true}}},
		3: {name: "status", kind: message, schema: schema{1: {name: "phase", kind: text}}}},
	"coordination.k8s.io/v1 Lease": {1: metadata, 2: {name: "spec", kind: message, schema: schema{
		1: {name: "holderIdentity", kind: text}, 2: {name: "leaseDurationSeconds", kind: number}, 3: {name: "acquireTime", kind: moment},
		4: {name: "renewTime", kind: moment}, 5: {name: "leaseTransitions", kind: number}}}},
}

// unknown is runtime.Unknown, the envelope's message.
const (
	unknownTypeMeta        = 1
	unknownRaw             = 2
	unknownContentEncoding = 3
	unknownContentType     = 4
)
