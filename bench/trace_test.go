package main

import (
	"bytes"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestBuiltInTraceIsWhole(t *testing.T) {
	t.Parallel()
	lines, err := builtInTrace()
	if err != nil {
		t.Fatal(err)
	}
	const want = 2586
	if len(lines) != want {
		t.Errorf("the trace has %d lines, not %d", len(lines), want)
	}
	made := map[int64]bool{0: true}
	for _, l := range lines {
		q, ok := l.request.(*etcdserverpb.TxnRequest)
		if !ok {
			continue
		}
		for _, c := range q.Compare {
			if m := c.GetModRevision(); !made[m] {
				t.Errorf("line %d compares with revision %d before it was made", l.seq, m)
			}
		}
		if l.succeeded {
			made[l.revision] = true
		}
	}
}

func TestTraceLines(t *testing.T) {
	t.Parallel()
	const put = `{"seq":7,"method":"/etcdserverpb.KV/Txn","request":{"compare":[{"key":"YQ==","modRevision":"0","target":"MOD"}],` +
		`"success":[{"requestPut":{"key":"YQ==","value":"bGVuOjYzNg=="}}]},"reply":{"revision":3,"succeeded":true}}`
	for _, c := range []struct{ name, text, failure string }{
		{"a transaction is read", put, ""},
		{"an unknown method is refused", `{"seq":1,"method":"/etcdserverpb.KV/Put","request":{}}`, "is unknown"},
		{"a field that the request does not have is refused", `{"seq":1,"method":"/etcdserverpb.KV/Range","request":{"colour":1}}`, "colour"},
		{"what is not JSON is refused", `{`, "line 1 of the trace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines, err := readTrace(strings.NewReader(c.text))
			if c.failure != "" {
				if err == nil || !strings.Contains(err.Error(), c.failure) {
					t.Errorf("the error is %v, and should have %q", err, c.failure)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l := lines[0]
			if p := l.request.(*etcdserverpb.TxnRequest).Success[0].GetRequestPut(); len(p.Value) != 636 || l.revision != 3 || !l.succeeded {
				t.Errorf("a value of %d bytes, %+v", len(p.Value), l)
			}
		})
	}
}

func TestTraceIsPutInOrder(t *testing.T) {
	t.Parallel()
	lines := []traceLine{
		{seq: 1, revision: 5, succeeded: true}, {seq: 2, revision: 4}, {seq: 3, revision: 4, succeeded: true}, {seq: 4}, {seq: 5, revision: 5},
	}
	inOrder(lines)
	var got []int
	for _, l := range lines {
		got = append(got, l.seq)
	}
	want := []int{3, 2, 1, 4, 5}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("the order is %v, not %v", got, want)
		}
	}
}

func TestACopyOfTheTraceKeepsToItsPrefix(t *testing.T) {
	t.Parallel()
	lines, err := builtInTrace()
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "/day/1/2"
	seen := 0
	for _, l := range newReplay(lines, prefix, nil, false).lines {
		eachKey(l.request, func(key []byte) []byte {
			seen++
			if !bytes.HasPrefix(key, []byte(prefix)) || bytes.HasPrefix(key[len(prefix):], []byte(prefix)) {
				t.Errorf("line %d has the key %q", l.seq, key)
			}
			return key
		})
	}
	eachKey(lines[len(lines)-1].request, func(key []byte) []byte {
		if bytes.HasPrefix(key, []byte(prefix)) {
			t.Errorf("the trace itself was changed: %q", key)
		}
		return key
	})
	if seen < len(lines) {
		t.Errorf("%d keys were seen in %d lines", seen, len(lines))
	}
}

func TestWatchesCoverTheirRange(t *testing.T) {
	t.Parallel()
	single, ranged := &watched{key: []byte("b")}, &watched{key: []byte("b"), end: []byte("d")}
	for _, c := range []struct {
		w    *watched
		key  string
		want bool
	}{
		{single, "b", true}, {single, "ba", false}, {ranged, "a", false}, {ranged, "b", true}, {ranged, "c", true}, {ranged, "d", false},
		{ranged, "", false}, {&watched{}, "b", false},
	} {
		if got := c.w.covers([]byte(c.key)); got != c.want {
			t.Errorf("[%s, %s) covers %q: %t", c.w.key, c.w.end, c.key, got)
		}
	}
}

func FuzzTraceLine(f *testing.F) {
	f.Add([]byte(`{"seq":1,"method":"/etcdserverpb.KV/Range","request":{"key":"YQ=="},"reply":{"count":1,"kvs":1,"revision":1}}`))
	f.Add([]byte(`{"seq":1,"stream":2,"method":"/etcdserverpb.Watch/Watch","request":{"createRequest":{"key":"YQ=="}}}`))
	f.Add([]byte(`{"method":"/etcdserverpb.KV/Txn","request":{"success":[{"requestPut":{"value":"bGVuOi0x"}}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseTraceLine(text)
		if err == nil && l.request == nil {
			t.Error("a line has neither a request nor an error")
		}
	})
}
