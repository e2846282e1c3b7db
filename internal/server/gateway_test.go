package server

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// ask posts to a server's gateway, with a Host header.
func (r *running) ask(t *testing.T, host, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+r.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Origin", "http://page.example:80")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestSettingsOfTheGatewayHaveAnEffect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		args   []string
		status int
		origin string
	}{
		{"by default, everything is allowed", nil, 200, "*"},
		{"the gateway is turned off", []string{"--enable-grpc-gateway=false"}, 404, "*"},
		{"another host", []string{"--host-whitelist=other.example"}, 421, ""},
		{"a host of the list", []string{"--host-whitelist=other.example,good.example"}, 200, "*"},
		{"an origin of the list", []string{"--cors=http://page.example:80"}, 200, "http://page.example:80"},
		{"another origin", []string{"--cors=http://other.example:80"}, 200, ""},
		{"a list with a blank, in another spelling", []string{"--cors=http://other.example:80, HTTP://page.example:80"}, 200, "http://page.example:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
			given, err := config.Parse("ashlar", c.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			cfg.EnableGateway, cfg.HostWhitelist, cfg.Origins = given.EnableGateway, given.HostWhitelist, given.Origins
			r := run(t, cfg)
			resp := r.ask(t, "good.example:1", "/v3/kv/range", `{"key":"YQ=="}`)
			_, _ = io.Copy(io.Discard, resp.Body)
			if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != c.status || got != c.origin {
				t.Errorf("status %d, origin %q", resp.StatusCode, got)
			}
			r.end(t)
		})
	}
}

func TestAStopEndsStreamsAndLocksOfTheGateway(t *testing.T) {
	t.Parallel()
	r := run(t, configAt(t, t.TempDir(), "127.0.0.1:0"))
	if resp := r.ask(t, "", "/v3/lock/lock", `{"name":"bg=="}`); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	waits := make(chan int, 1)
	go func() {
		resp, err := http.Post("http://"+r.address+"/v3/lock/lock", "application/json", strings.NewReader(`{"name":"bg=="}`))
		if err != nil {
			t.Error(err)
			waits <- 0
			return
		}
		_ = resp.Body.Close()
		waits <- resp.StatusCode
	}()
	watch := bufio.NewReader(r.ask(t, "", "/v3/watch", `{"create_request":{"key":"bi8=","range_end":"bjA=","start_revision":3}}`).Body)
	for range 2 { // created, and the second client's key: it waits
		if _, err := watch.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	r.end(t)
	last, err := watch.ReadString('\n')
	if !strings.Contains(last, `"error":{"code":14,`) {
		t.Errorf("the watch ended with %q, %v", last, err)
	}
	if status := <-waits; status != http.StatusServiceUnavailable {
		t.Errorf("the lock ended with %d", status)
	}
}
