package observe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/test/process"
)

// member is a process with its addresses.
type member struct {
	name, client, peer string // the last two without a scheme
}

// start starts n members with more flags and waits until they serve.
func start(t *testing.T, n int, extra func(i int) []string) []member {
	t.Helper()
	members := make([]member, n)
	var initial []string
	for i := range members {
		m := member{fmt.Sprintf("m%d", i), process.FreeAddress(t), process.FreeAddress(t)}
		members[i] = m
		initial = append(initial, m.name+"=http://"+m.peer)
	}
	var running []*process.Process
	for i, m := range members {
		dir := t.TempDir()
		args := []string{
			program, "--name", m.name, "--data-dir", filepath.Join(dir, "data"),
			"--listen-client-urls", "http://" + m.client, "--advertise-client-urls", "http://" + m.client,
			"--listen-peer-urls", "http://" + m.peer, "--initial-advertise-peer-urls", "http://" + m.peer,
			"--initial-cluster", strings.Join(initial, ","),
		}
		running = append(running, process.Start(t, dir, nil, append(args, extra(i)...)...))
	}
	for _, p := range running {
		p.WaitReady(t)
	}
	return members
}

func extensive(int) []string { return []string{"--metrics=extensive"} }

func connect(t *testing.T, m member) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.client}, DialTimeout: process.Patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// within bounds a test's requests.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
	t.Cleanup(cancel)
	return ctx
}

// page is what an address answered.
type page struct {
	status int
	header http.Header
	body   string
}

// get asks an address. The certificate of an https address is not looked at: the server has made it itself.
func get(ctx context.Context, url string) (page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return page{}, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return page{resp.StatusCode, resp.Header, string(b)}, err
}

// eventually calls f until it returns no more complaint, and fails the test when that takes too long.
func eventually(t *testing.T, f func() (complaint string)) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		complaint := f()
		if complaint == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(complaint)
		}
	}
}
