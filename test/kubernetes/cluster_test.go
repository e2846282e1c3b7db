package kubernetes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// patience bounds every wait; it is no expectation.
const patience = 3 * time.Minute

// cluster is three members and the apiserver on them.
type cluster struct {
	t       *testing.T
	members [3]*member
	config  *rest.Config
}

type member struct {
	args    []string
	log     *os.File
	process *exec.Cmd
}

// newCluster starts everything and waits until the apiserver is ready. All ends with the test.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	dir := t.TempDir()
	var clients, peers [len(c.members)]string
	var initial []string
	for i := range c.members {
		clients[i], peers[i] = "http://"+freeAddress(t), "http://"+freeAddress(t)
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range c.members {
		name := fmt.Sprintf("m%d", i)
		c.members[i] = &member{log: create(t, filepath.Join(dir, name+".log")), args: []string{*server, "--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-client-urls", clients[i], "--advertise-client-urls", clients[i], "--listen-peer-urls", peers[i],
			"--initial-advertise-peer-urls", peers[i], "--initial-cluster", strings.Join(initial, ","), "--watch-progress-notify-interval=5s"}}
		c.members[i].start(t)
	}
	c.startAPIServer(dir, clients[:])
	return c
}

func (m *member) start(t *testing.T) {
	t.Helper()
	m.process = start(t, m.log, nil, m.args...)
}

func (m *member) kill() {
	m.process.Process.Kill()
	m.process.Wait()
}

// startAPIServer starts a kube-apiserver that lets the one token that it knows do anything, and forgets events after ten seconds.
func (c *cluster) startAPIServer(dir string, endpoints []string) {
	c.t.Helper()
	key := filepath.Join(dir, "key.pem")
	writeKey(c.t, key)
	const token = "the-only-one"
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	address := freeAddress(c.t)
	host, port, _ := net.SplitHostPort(address)
	log := create(c.t, filepath.Join(dir, "apiserver.log"))
	start(c.t, log, []string{asAPIServer}, os.Args[0], "--etcd-servers", strings.Join(endpoints, ","), "--etcd-compaction-interval=10s", "--event-ttl=10s",
		"--bind-address", host, "--advertise-address", host, "--secure-port", port, "--cert-dir", filepath.Join(dir, "certs"), "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.0.0.0/16", "--authorization-mode=RBAC", "--token-auth-file", tokens,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key)
	c.config = &rest.Config{Host: "https://" + address, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}

	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	client := c.core()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		_, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			text, _ := os.ReadFile(log.Name())
			c.t.Fatalf("the apiserver is not ready: %v; its log ends with:\n%s", err, text[max(0, len(text)-4000):])
		}
	}
}

func (c *cluster) core() *typedcorev1.CoreV1Client {
	c.t.Helper()
	client, err := typedcorev1.NewForConfig(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// start runs a command that ends with the test at the latest, and in whose log no panic may be then.
func start(t *testing.T, log *os.File, env []string, command ...string) *exec.Cmd {
	t.Helper()
	p := exec.Command(command[0], command[1:]...)
	p.Env = append(os.Environ(), env...)
	p.Stdout, p.Stderr, p.SysProcAttr = log, log, diesWithParent()
	if err := p.Start(); err != nil {
		t.Fatalf("starting %s: %v", command[0], err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
		if text, err := os.ReadFile(log.Name()); err != nil || strings.Contains(string(text), "\npanic: ") {
			t.Errorf("%v; the log of %s:\n%s", err, command[0], text)
		}
	})
	return p
}

func create(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// freeAddress is a loopback address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// writeKey writes a key for the tokens of service accounts.
func writeKey(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
