package peer

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestStatusesAreThoseOfEtcd holds what a member of etcd 3.7.1 answered.
func TestStatusesAreThoseOfEtcd(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, testCluster)
	s.SetMembers(membership(t, 0xbad))
	h := s.Handler()
	same := map[string]string{headerCluster: "c1", headerVersion: "3.7.1", headerMinVersion: "3.0.0"}
	with := func(key, value string) map[string]string {
		m := map[string]string{key: value}
		for k, v := range same {
			if k != key {
				m[k] = v
			}
		}
		return m
	}
	cases := []struct {
		method, path, body string
		header             map[string]string
		status             int
		text               string
	}{
		{"POST", "/members", "", nil, 405, "Method Not Allowed"},
		{"GET", "/members/promote/1", "", nil, 405, "Method Not Allowed"},
		{"POST", "/members/promote/abc", "", nil, 404, "member abc not found in cluster"},
		{"GET", "/members/hashkv", "xx", nil, 400, "error unmarshalling request"},
		{"GET", "/members/hashkv", `{"revision":0}`, map[string]string{headerCluster: "1"}, 412, "cluster ID mismatch"},
		{"GET", "/leases", "", nil, 405, "Method Not Allowed"},
		{"POST", "/leases", "xxxxx", nil, 400, "error unmarshalling request"},
		{"POST", "/leases", "", nil, 404, "lease not found"},
		{"POST", "/downgrade/enabled", "", nil, 405, "Method Not Allowed"},
		{"GET", "/raft/stream/message/1", "", nil, 412, "incompatible version"},
		{"GET", "/raft/stream/message/5", "", same, 404, "error sender not found"},
		{"GET", "/raft/stream/message/zz", "", same, 404, "invalid from"},
		{"GET", "/raft/stream/message/bad", "", same, 410, "removed member"},
		{"GET", "/raft/stream/other/1", "", same, 404, "invalid path"},
		{"GET", "/raft/stream/message/1", "", with(headerCluster, "12"), 412, "cluster ID mismatch"},
		{"GET", "/raft/stream/message/1", "", with(headerMinVersion, "3.8.0"), 412, "incompatible version"},
		{"GET", "/raft/stream/message/1", "", with(headerVersion, "2.3.0"), 412, "incompatible version"},
		{"POST", "/raft/stream/message/1", "", same, 405, "Method Not Allowed"},
		{"GET", "/raft", "", same, 405, "Method Not Allowed"},
		{"POST", "/raft", "", with(headerFrom, "bad"), 403, "removed member"},
		{"POST", "/raft", "\xff", same, 400, "error unmarshalling raft message"},
		{"GET", "/raft/snapshot", "", nil, 405, "Method Not Allowed"},
		{"POST", "/raft/snapshot", "xx", same, 400, "failed to decode raft message (unexpected EOF)"},
		{"GET", "/raft/foo", "", nil, 404, "404 page not found"},
	}
	for _, c := range cases {
		req := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		for k, v := range c.header {
			req.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		text, _ := io.ReadAll(w.Body)
		if w.Code != c.status || strings.TrimSpace(string(text)) != c.text {
			t.Errorf("%s %s %q %v: got %d %q, want %d %q", c.method, c.path, c.body, c.header, w.Code, text, c.status, c.text)
		}
		if w.Code == http.StatusMethodNotAllowed && !strings.HasPrefix(c.path, "/leases") && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", c.method, c.path)
		}
	}
}
