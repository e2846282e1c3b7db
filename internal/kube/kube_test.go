package kube

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/yaml"
)

// bytesField encodes a field of bytes.
func bytesField(number protowire.Number, b ...byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
}

func textField(number protowire.Number, s string) []byte { return bytesField(number, []byte(s)...) }

func numberField(number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func pair(number protowire.Number, key, value string) []byte {
	return bytesField(number, join(textField(1, key), textField(2, value))...)
}

// stored returns an object in its envelope.
func stored(apiVersion, kind string, fields ...[]byte) []byte {
	return join([]byte("k8s\x00"), bytesField(1, join(textField(1, apiVersion), textField(2, kind))...),
		bytesField(2, join(fields...)...), textField(3, ""), textField(4, ""))
}

func meta(fields ...[]byte) []byte { return bytesField(1, join(fields...)...) }

func TestWhatKubernetesStoresIsYAML(t *testing.T) {
	t.Parallel()
	created := bytesField(8, join(numberField(1, 1700000000), numberField(2, 0))...)
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"a config map is known by its names": {
			stored("v1", "ConfigMap", meta(textField(1, "c"), textField(3, "default"), textField(5, "7c9d"), created,
				pair(11, "app", "web"), pair(11, "on", "yes")), pair(2, "k", "v"), pair(2, "file", "one\ntwo"), numberField(4, 1)),
			`apiVersion: v1
kind: ConfigMap
metadata:
  name: c
  namespace: default
  uid: "7c9d"
  creationTimestamp: "2023-11-14T22:13:20Z"
  labels:
    app: web
    "on": "yes"
data:
  k: v
  file: |-
    one
    two
immutable: true
`},
		"a secret's data is base64": {
			stored("v1", "Secret", meta(textField(1, "s")), pair(2, "p", "hunter2"), textField(3, "Opaque")),
			"apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata:\n  p: \"aHVudGVyMg==\"\ntype: Opaque\n"},
		"an unknown kind has its metadata, the rest by number": {
			stored("example.com/v1", "Gadget", meta(textField(1, "p"), bytesField(13, join(textField(1, "ReplicaSet"), textField(3, "r"), numberField(6, 1))...),
				textField(14, "f")), bytesField(2, join(textField(3, "Always"), numberField(4, 30), bytesField(7, join(textField(1, "x"), numberField(2, 5))...))...),
				bytesField(3, 0xff, 0xfe)),
			`apiVersion: example.com/v1
kind: Gadget
metadata:
  name: p
  ownerReferences:
  - kind: ReplicaSet
    name: r
    controller: true
  finalizers:
  - f
field2:
  field3: Always
  field4: 30
  field7:
    field1: x
    field2: 5
field3: "//4="
`},
		"fields are named as in JSON": {
			stored("v1", "Pod", meta(textField(1, "p"), textField(2, ""), numberField(7, 0), bytesField(8)),
				bytesField(2, join( // spec
					bytesField(1, join(textField(1, "files"), bytesField(2, bytesField(19, bytesField(1, textField(1, "cm")...)...)...))...), // volumes, inline
					bytesField(2, join(textField(1, "main"), textField(14, ""), // containers
						bytesField(8, bytesField(1, join(textField(1, "cpu"), bytesField(2, textField(1, "100m")...))...)...), // resources
						bytesField(11, bytesField(1, bytesField(2, join(textField(1, "/"), bytesField(2, join(numberField(1, 0), numberField(2, 8080), textField(3, ""))...))...)...)...))...),
					numberField(4, 30), pair(7, "zone", "z0"), numberField(25, 0), bytesField(99, 0xff))...)), // and one of a later version
			`apiVersion: v1
kind: Pod
metadata:
  name: p
spec:
  volumes:
  - name: files
    configMap:
      name: cm
  containers:
  - name: main
    resources:
      limits:
        cpu: "100m"
    readinessProbe:
      httpGet:
        path: /
        port: 8080
  terminationGracePeriodSeconds: 30
  nodeSelector:
    zone: z0
  priority: 0
  field99: "/w=="
`},
		"a repeated field is a list": {
			stored("v1", "Thing", meta(textField(1, "t")), textField(9, "a"), textField(9, "b c")),
			"apiVersion: v1\nkind: Thing\nmetadata:\n  name: t\nfield9:\n- a\n- \"b c\"\n"},
		"a custom resource is JSON": {
			[]byte(`{"apiVersion":"x/v1","kind":"T","spec":{"m":1}}`), "apiVersion: x/v1\nkind: T\nspec:\n  m: 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := YAML(c.value)
			if err != nil || got != c.want {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, c.want)
			}
			mustParse(t, got)
		})
	}
}

func TestEverySchemaIsThere(t *testing.T) {
	t.Parallel()
	all := schemas()
	fields := 0
	for name, s := range all {
		for n, f := range s {
			fields++
			if n < 1 || f.name == "" || (f.kind == message) != (f.message != "") || f.inline && f.kind != message {
				t.Errorf("%s, field %d: %+v", name, n, f)
			}
			if _, ok := all[f.message]; f.kind == message && !ok {
				t.Errorf("%s, field %d: there is no %s", name, n, f.message)
			}
		}
	}
	if fields < 3000 {
		t.Errorf("only %d fields were read", fields)
	}
	for _, known := range [][2]string{{"v1", "Pod"}, {"apps/v1", "Deployment"}, {"rbac.authorization.k8s.io/v1", "ClusterRole"},
		{"flowcontrol.apiserver.k8s.io/v1", "FlowSchema"}, {"apiregistration.k8s.io/v1", "APIService"},
		{"apiextensions.k8s.io/v1", "CustomResourceDefinition"}, {"coordination.k8s.io/v1", "Lease"}} {
		if s := schemaOf(known[0], known[1]); s[2].name != "spec" && s[2].name != "rules" {
			t.Errorf("%s: got %+v", known, s[2])
		}
	}
	if s := schemaOf("example.com/v1", "Pod"); len(s) != 1 || s[1].name != "metadata" {
		t.Errorf("another's Pod is taken for one of Kubernetes: %+v", s)
	}
}

var update = flag.Bool("update", false, "rewrite testdata/*.yaml")

// The fixtures are values as a kube-apiserver stored them.
func TestStoredValues(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.value")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, name := range files {
		value, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := YAML(value)
		if err != nil {
			t.Fatal(name, err)
		}
		golden := strings.TrimSuffix(name, ".value") + ".yaml"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s: got %v\n%s\nwant\n%s", name, err, got, want)
		}
		mustParse(t, got)
	}
}

func mustParse(t *testing.T, text string) map[string]any {
	t.Helper()
	var back map[string]any
	if err := yaml.Unmarshal([]byte(text), &back); err != nil {
		t.Fatalf("this is no YAML: %v\n%s", err, text)
	}
	return back
}

func TestWhatIsNotOfKubernetesIsRefused(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"text": "hello", "nothing": "", "an envelope cut short": "k8s\x00\x0a\x10ab",
		"an encrypted value": "k8s:enc:aescbc:v1:key:\x01\x02", "broken JSON": "{", "an object that is no message": "k8s\x00\x12\x02\x0a\x09"} {
		if got, err := YAML([]byte(value)); !errors.Is(err, ErrNotKubernetes) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := YAML([]byte("k8s:enc:x")); !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("got %v", err)
	}
}

func TestDeepNestingEnds(t *testing.T) {
	t.Parallel()
	inner := numberField(1, 1)
	for range 1000 {
		inner = bytesField(1, inner...)
	}
	got, err := YAML(stored("v1", "Deep", meta(textField(1, "d")), bytesField(2, inner...)))
	if err != nil {
		t.Fatal(err)
	}
	if deepest := strings.Count(got, "field1:"); deepest > nestingMax+1 {
		t.Errorf("%d levels", deepest)
	}
	mustParse(t, got)
}

func TestTextsReadBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "true", "No", "1", "1e3", "~", "- a", "a: b", "#x", "a\nb", "a\n\nb", " a\nb", "a \nb", "a\n", "ä\tb", "\"", "a\n  b", "<&>",
		"0x10", "=", "|-", "2001-01-01", "a\n---\nb", "k8s", "/", "/a", ".inf", "a\n# b", "\u2028x\ny"} {
		got := mustParse(t, render([]entry{{"v", s}, {s, "key"}, {"l", list{s, &node{entries: []entry{{"in", s}}}}}}))
		if got["v"] != s {
			t.Errorf("%q reads back as %#v", s, got["v"])
		}
		if l := got["l"].([]any); l[0] != s || l[1].(map[string]any)["in"] != s {
			t.Errorf("%q reads back in a list as %#v", s, l)
		}
		if s != "v" && s != "l" && got[s] != "key" {
			t.Errorf("%q is no key of %v", s, got)
		}
	}
}

func FuzzYAML(f *testing.F) {
	f.Add(stored("v1", "ConfigMap", meta(textField(1, "c"), pair(11, "a", "b")), pair(2, "k", "v\nw")))
	f.Add(stored("v1", "Pod", meta(textField(1, "p")), bytesField(2, numberField(1, 1)...), bytesField(2, 1, 2, 3)))
	f.Add([]byte("k8s\x00\x12\x02\x0a\x00"))
	f.Add([]byte(`{"a":[1,null]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		text, err := YAML(value)
		if err != nil {
			return
		}
		if json.Valid(value) {
			return // another library's YAML
		}
		var back map[string]any
		if err := yaml.Unmarshal([]byte(text), &back); err != nil {
			t.Errorf("%x gives what is no YAML: %v\n%s", value, err, text)
		}
	})
}
