package ctl

import (
	"crypto/sha256"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/ashlar-kv/ashlar/internal/kube"
	"github.com/ashlar-kv/ashlar/test/process"
)

// kubernetesValues returns the last version of all keys that a kube-apiserver stored. The file is shared between repositories;
// without it the test is skipped, but not in CI.
func kubernetesValues(t *testing.T) map[string]*mvccpb.KeyValue {
	t.Helper()
	root, err := process.Root()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(root, "..", "shared", "data", "kubernetes-1.36.snapshot.db"))
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: the recorded Kubernetes data is missing, and CI must not pass without it: %v", t.Name(), err)
		}
		t.Skipf("%s SKIPPED: the recorded Kubernetes data is not there: %v", t.Name(), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(name, file[:len(file)-sha256.Size], 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]*mvccpb.KeyValue{}
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(revision, record []byte) error {
			if len(revision) == 18 { // a deletion
				return nil
			}
			kv := &mvccpb.KeyValue{}
			err := proto.Unmarshal(record, kv)
			all[string(kv.GetKey())] = kv
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// unnamed are the objects without a name: the API server's own records.
var unnamed = regexp.MustCompile("^/registry/(ranges|peerserverleases|masterleases)/")

func TestAllThatKubernetesStoredIsShownAsYAML(t *testing.T) {
	t.Parallel()
	shown := 0
	for key, kv := range kubernetesValues(t) {
		if !strings.HasPrefix(key, "/registry/") {
			continue
		}
		text, err := kube.YAML(kv.GetValue())
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		var object struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
				UID       string `json:"uid"`
				Created   string `json:"creationTimestamp"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Errorf("%s is no YAML: %v\n%s", key, err, text)
			continue
		}
		m := object.Metadata
		if object.APIVersion == "" || object.Kind == "" {
			t.Errorf("%s: no type in\n%s", key, text)
		}
		if m.Name == "" && unnamed.MatchString(key) {
			continue
		}
		if i := strings.Index(text, "\nfield"); i >= 0 {
			t.Errorf("%s: a field has no name: %.100s", key, text[i:])
		}
		if m.Name != path.Base(key) || (m.Namespace != "" && m.Namespace != path.Base(path.Dir(key))) || len(m.UID) != 36 || !strings.HasSuffix(m.Created, "Z") {
			t.Errorf("%s: got %+v of\n%s", key, m, text)
		}
		shown++
	}
	if shown < 1256 { // as many keys are alive
		t.Errorf("only %d values were shown", shown)
	}
}
