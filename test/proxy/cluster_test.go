package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// TestEndpointsAreThoseOfTheClusterAfterAWhile begins at an address that ends once the proxy knows the member's own.
func TestEndpointsAreThoseOfTheClusterAfterAWhile(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	way := runCommand(t, "gateway", "start", "--listen-addr=127.0.0.1:0", "--endpoints="+up.address)
	p := runProxy(t, way.addresses[0], "--endpoints-auto-sync-interval=20ms")
	eventually(t, "the proxy learns of the member's own address", func() bool {
		return strings.Contains(p.log.String(), "the cluster has other endpoints")
	})
	way.stop()
	c := p.client(t)
	eventually(t, "a write comes through", func() bool {
		_, err := c.Put(soon(t), "k", "v")
		return err == nil
	})
	if code, text := get(t, http.DefaultClient, "http://"+p.addresses[0]+"/metrics"); code != http.StatusOK || !strings.Contains(text, "etcd_server_has_leader 1") {
		t.Errorf("the member's metrics: %d, %.200s", code, text)
	}
}
