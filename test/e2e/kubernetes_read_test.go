package e2e

import (
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/test/process"
)

// kubernetesReader compares a server with what was written, in the ways Kubernetes and its operators read.
type kubernetesReader struct {
	written   *history
	expected  summary
	revisions []int64 // the older ones to read at
}

func (r kubernetesReader) compare(t *testing.T, c *clientv3.Client) {
	t.Helper()
	r.compareAt(t, c, 0)
	for _, revision := range r.revisions {
		r.compareAt(t, c, revision)
	}
	r.comparePrefixes(t, c)
}

// compareAt reads everything at a revision (0 = the newest) at once, backwards, by pages, without values and counted.
func (r kubernetesReader) compareAt(t *testing.T, c *clientv3.Client, revision int64) {
	t.Helper()
	want := r.written.at(r.expected.Revision)
	if revision != 0 {
		want = r.written.at(revision)
	}
	read := func(options ...clientv3.OpOption) *clientv3.GetResponse {
		t.Helper()
		return r.get(t, c, "", append(options, clientv3.WithPrefix(), clientv3.WithRev(revision))...)
	}
	compare := func(way string, got *clientv3.GetResponse, want []*mvccpb.KeyValue, count int, more bool) {
		t.Helper()
		if d := difference(got.Kvs, want); d != "" {
			t.Fatalf("revision %d, %s: %s", revision, way, d)
		}
		if got.Count != int64(count) || got.More != more {
			t.Fatalf("revision %d, %s: got count %d, more %v, want %d, %v", revision, way, got.Count, got.More, count, more)
		}
	}

	compare("everything", read(), want, len(want), false)

	backwards := slices.Clone(want)
	slices.Reverse(backwards)
	limit := min(300, len(want))
	compare("backwards with a limit",
		read(clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(300)), backwards[:limit], len(want), len(want) > 300)

	compare("count only", read(clientv3.WithCountOnly()), nil, len(want), false)
	compare("keys only", read(clientv3.WithKeysOnly()), withoutValues(want), len(want), false)

	byRevision := slices.Clone(want)
	slices.SortStableFunc(byRevision, func(a, b *mvccpb.KeyValue) int { return int(a.ModRevision - b.ModRevision) })
	compare("by revision", read(clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend)), byRevision, len(want), false)

	r.comparePages(t, c, revision, want)
}

// comparePages walks all keys as a Kubernetes list does: each page starts behind the last key of the one before and
// is read at the first page's revision.
func (r kubernetesReader) comparePages(t *testing.T, c *clientv3.Client, revision int64, want []*mvccpb.KeyValue) {
	t.Helper()
	const limit = 100
	key, at, done := "\x00", revision, 0
	for {
		page := r.get(t, c, key, clientv3.WithFromKey(), clientv3.WithLimit(limit), clientv3.WithRev(at))
		rest := want[done:]
		if d := difference(page.Kvs, rest[:min(limit, len(rest))]); d != "" {
			t.Fatalf("revision %d, the page from key %q: %s", revision, key, d)
		}
		if page.Count != int64(len(rest)) || page.More != (len(rest) > limit) {
			t.Fatalf("revision %d, the page from key %q: got count %d, more %v with %d keys left", revision, key, page.Count, page.More, len(rest))
		}
		if !page.More {
			return
		}
		done += limit
		key = string(page.Kvs[limit-1].Key) + "\x00"
		if at == 0 {
			at = page.Header.Revision
		}
	}
}

// comparePrefixes counts the keys of each kind of object and reads one key of each by itself.
func (r kubernetesReader) comparePrefixes(t *testing.T, c *clientv3.Client) {
	t.Helper()
	all := r.written.at(r.expected.Revision)
	for prefix, count := range r.expected.KeysPerPrefix {
		if prefix[0] == '/' {
			prefix += "/"
		}
		answer := r.get(t, c, prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
		if answer.Count != int64(count) || answer.More != (count > 1) || len(answer.Kvs) != 1 {
			t.Fatalf("prefix %s: got count %d, more %v, %d keys, want count %d", prefix, answer.Count, answer.More, len(answer.Kvs), count)
		}
		single := r.get(t, c, string(answer.Kvs[0].Key))
		i := slices.IndexFunc(all, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == string(answer.Kvs[0].Key) })
		if i < 0 || single.Count != 1 {
			t.Fatalf("prefix %s: key %q: position %d of the expected, count %d", prefix, answer.Kvs[0].Key, i, single.Count)
		}
		if d := difference(single.Kvs, all[i:i+1]); d != "" {
			t.Fatalf("prefix %s: %s", prefix, d)
		}
	}
}

// get reads, and checks that the header tells the store's revision, not the one read at.
func (r kubernetesReader) get(t *testing.T, c *clientv3.Client, key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	answer, err := c.Get(within(t, process.Patience), key, options...)
	noError(t, err)
	if answer.Header.Revision != r.expected.Revision {
		t.Fatalf("a read was answered with revision %d in its header, want %d", answer.Header.Revision, r.expected.Revision)
	}
	return answer
}

func withoutValues(kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	keys := make([]*mvccpb.KeyValue, len(kvs))
	for i, kv := range kvs {
		keys[i] = proto.CloneOf(kv)
		keys[i].Value = nil
	}
	return keys
}
