package deploy

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/version"
	"github.com/ashlar-kv/ashlar/test/process"
)

// pod is what of a pod matters to the member in it.
type pod struct {
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		HostNetwork bool
		Containers  []struct {
			Name, Image                                 string
			Command                                     []string
			StartupProbe, ReadinessProbe, LivenessProbe *probe
			Ports                                       []struct {
				Name          string
				ContainerPort int
			}
			VolumeMounts []struct {
				Name, MountPath string
				ReadOnly        bool
			}
		}
		Volumes []struct {
			Name     string
			HostPath struct{ Path, Type string }
		}
	}
}

type probe struct {
	HTTPGet struct{ Host, Path, Port, Scheme string }
}

// pods are ours, and one as kubeadm writes it: made by `kubeadm init phase etcd local`, with the image's repository and tag that
// deploy/kubeadm.md names, and not changed since.
var pods = map[string]string{
	"ours":              root + "kubernetes/etcd.yaml",
	"of kubeadm 1.36.3": "testdata/kubeadm-1.36.3.yaml",
}

func readPod(t *testing.T, file string) (p pod, c config.Config) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, new(map[string]any)); err != nil { // no key twice
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Containers) != 1 || p.Spec.Containers[0].Command[0] != "etcd" {
		t.Fatalf("got %+v", p)
	}
	if c, err = config.Parse("etcd", p.Spec.Containers[0].Command[1:], nil); err != nil {
		t.Fatal(err)
	}
	return p, c
}

func TestThePodFitsTogether(t *testing.T) {
	t.Parallel()
	for name, file := range pods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fitsTogether(t, file)
		})
	}
}

func fitsTogether(t *testing.T, file string) {
	t.Helper()
	p, c := readPod(t, file)
	wellTaken(t, &c)
	if err := c.CheckBootstrap(t.Context()); err != nil {
		t.Error(err)
	}
	box := p.Spec.Containers[0]
	within := func(file string, write bool) bool {
		for _, m := range box.VolumeMounts {
			if (file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")) && !(write && m.ReadOnly) {
				return true
			}
		}
		return false
	}
	if !within(c.DataDir, true) {
		t.Errorf("%s is not on the host", c.DataDir)
	}
	for _, file := range []string{c.ClientTLS.Cert, c.ClientTLS.Key, c.ClientTLS.CA, c.PeerTLS.Cert, c.PeerTLS.Key, c.PeerTLS.CA} {
		if !within(file, false) {
			t.Errorf("%q is not on the host", file)
		}
	}
	for _, m := range box.VolumeMounts {
		if !slices.ContainsFunc(p.Spec.Volumes, func(v struct {
			Name     string
			HostPath struct{ Path, Type string }
		}) bool {
			return v.Name == m.Name && v.HostPath.Path == m.MountPath
		}) {
			t.Errorf("no volume %s is at %s", m.Name, m.MountPath)
		}
	}
	if tag := path.Base(box.Image); !strings.HasSuffix(tag, ":"+version.Etcd+"-0") || !p.Spec.HostNetwork {
		t.Errorf("the image is %s; its tag tells kubeadm the release of etcd", box.Image)
	}
	for _, x := range []*probe{box.StartupProbe, box.ReadinessProbe, box.LivenessProbe} {
		u := url.URL{Scheme: strings.ToLower(x.HTTPGet.Scheme), Host: x.HTTPGet.Host + ":2381"}
		if !slices.Contains(c.ListenMetricsURLs.Strings(), u.String()) || x.HTTPGet.Port != box.Ports[0].Name || box.Ports[0].ContainerPort != 2381 {
			t.Errorf("a probe asks %v, which nobody listens on", &u)
		}
	}
}

// withoutTLS are the flags of the pod that a member without certificates leaves out.
var withoutTLS = regexp.MustCompile(`^--(peer-)?(cert-file|key-file|trusted-ca-file|client-cert-auth)=`)

// TestThePodsProbesAreAnswered runs the pods' own commands, at other addresses and without TLS.
func TestThePodsProbesAreAnswered(t *testing.T) {
	t.Parallel()
	built, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range pods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			probesAreAnswered(t, built, file)
		})
	}
}

func probesAreAnswered(t *testing.T, built, file string) {
	t.Helper()
	p, _ := readPod(t, file)
	box := p.Spec.Containers[0]
	dir := t.TempDir()
	command := filepath.Join(dir, box.Command[0])
	if err := os.Symlink(built, command); err != nil {
		t.Fatal(err)
	}
	client, peer, metrics := process.FreeAddress(t), process.FreeAddress(t), process.FreeAddress(t)
	moved := strings.NewReplacer("https://127.0.0.1:2379,", "", "https://192.0.2.1:2379", "http://"+client, "https://192.0.2.1:2380", "http://"+peer,
		"http://127.0.0.1:2381", "http://"+metrics, "/var/lib/etcd", filepath.Join(dir, "data"))
	args := []string{command}
	for _, a := range box.Command[1:] {
		if !withoutTLS.MatchString(a) {
			args = append(args, moved.Replace(a))
		}
	}
	member := process.Start(t, dir, nil, args...)
	member.WaitReady(t)
	for name, x := range map[string]*probe{"startup": box.StartupProbe, "readiness": box.ReadinessProbe, "liveness": box.LivenessProbe} {
		resp, err := http.Get("http://" + metrics + x.HTTPGet.Path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("the %s probe at %s: %s, %s, %v", name, x.HTTPGet.Path, resp.Status, body, err)
		}
	}
	member.Stop(t)
}
