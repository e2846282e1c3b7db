package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// fillerKey is written where compaction had removed a revision from the recording, so that ours and the recorded
// revisions are the same numbers. It sorts behind every key of Kubernetes.
const fillerKey = "~filler"

// TestKubernetesDataComesBackAsItWentIn loads what kube-apiserver wrote, write by write, and reads it back in every way, at the
// newest and at older revisions, also after clean and unclean ends of the server and after compaction.
func TestKubernetesDataComesBackAsItWentIn(t *testing.T) {
	t.Parallel()
	revisions, expected := kubernetesData(t)
	recorded := newHistory()
	for _, r := range revisions {
		for _, c := range r.changes {
			recorded.record(r.main, c)
		}
	}
	checkRecording(t, recorded, expected)

	m := newMember(t)
	s := m.start(t)
	written := load(t, m.connect(t), revisions)
	checkAgainstRecording(t, written, recorded, expected)

	reader := kubernetesReader{written: written, expected: expected, revisions: []int64{1, 2, 3, 777, 1500, expected.CompactRevision - 1}}
	for _, at := range expected.AtRevisions {
		reader.revisions = append(reader.revisions, at.Revision)
	}
	t.Log("as loaded")
	reader.compare(t, m.connect(t))

	s.stop(t)
	s = m.start(t)
	t.Log("after a clean stop")
	reader.compare(t, m.connect(t))

	s.Kill()
	s = m.start(t)
	t.Log("after SIGKILL")
	c := m.connect(t)
	reader.compare(t, c)

	_, err := c.Compact(within(t, process.Patience), expected.CompactRevision, clientv3.WithCompactPhysical())
	noError(t, err)
	reader.revisions = slices.DeleteFunc(reader.revisions, func(r int64) bool { return r < expected.CompactRevision })
	t.Log("after compaction")
	reader.compare(t, c)
	_, err = c.Get(within(t, process.Patience), "", clientv3.WithPrefix(), clientv3.WithRev(expected.CompactRevision-1))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("a read below the compact revision: got %v, want %v", err, rpctypes.ErrCompacted)
	}
	s.stop(t)
}

// checkRecording proves that the recording was read rightly: its digests are the ones that etcd's own answers had.
func checkRecording(t *testing.T, recorded *history, expected summary) {
	t.Helper()
	if got := digest(recorded.at(expected.Revision)); got != expected.Digest {
		t.Fatalf("the recording at its newest revision: got digest %s, want %s", got, expected.Digest)
	}
	for _, at := range expected.AtRevisions {
		if got := digest(recorded.at(at.Revision)); got != at.Digest {
			t.Fatalf("the recording at revision %d: got digest %s, want %s", at.Revision, got, at.Digest)
		}
	}
}

// load writes the recording, one write for each revision, the way kube-apiserver does: a change is a transaction that
// compares the key's revision. It returns what the store must hold then.
func load(t *testing.T, c *clientv3.Client, revisions []revision) *history {
	t.Helper()
	ctx := within(t, wholeTest)
	written := newHistory()
	next := int64(2) // an empty store is at revision 1
	for _, r := range revisions {
		for ; next < r.main; next++ {
			value := fmt.Appendf(nil, "fills revision %d", next)
			answer, err := c.Put(ctx, fillerKey, string(value))
			noError(t, err)
			wantRevision(t, answer.Header.Revision, next)
			written.put(next, []byte(fillerKey), value)
		}
		writeRevision(ctx, t, c, r, written)
		next++
	}
	return written
}

// writeRevision writes all changes of one revision in one transaction and adds them to written.
func writeRevision(ctx context.Context, t *testing.T, c *clientv3.Client, r revision, written *history) {
	t.Helper()
	var compares []clientv3.Cmp
	var operations []clientv3.Op
	for _, change := range r.changes {
		key, before := string(change.kv.Key), int64(0)
		if kv := written.newest(key); kv != nil {
			before = kv.ModRevision
		}
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(key), "=", before))
		if change.deleted {
			operations = append(operations, clientv3.OpDelete(key))
			written.record(r.main, change)
		} else {
			operations = append(operations, clientv3.OpPut(key, string(change.kv.Value)))
			written.put(r.main, change.kv.Key, change.kv.Value)
		}
	}
	answer, err := c.Txn(ctx).If(compares...).Then(operations...).Commit()
	noError(t, err)
	if !answer.Succeeded {
		t.Fatalf("revision %d: the keys are not at the revisions where they were written", r.main)
	}
	wantRevision(t, answer.Header.Revision, r.main)
}

func wantRevision(t *testing.T, got, want int64) {
	t.Helper()
	if got != want {
		t.Fatalf("a write was answered with revision %d, want %d", got, want)
	}
}

// checkAgainstRecording ties the expectation to the recording: from its compact revision on both hold the same keys, values
// and revisions. A key whose first versions were compacted away counts its versions from its oldest one left, and lease ids
// were not loaded; everything else is equal.
func checkAgainstRecording(t *testing.T, written, recorded *history, expected summary) {
	t.Helper()
	for at := expected.CompactRevision; at <= expected.Revision; at++ {
		got := slices.DeleteFunc(written.at(at), func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == fillerKey })
		want := recorded.at(at)
		if len(got) != len(want) {
			t.Fatalf("revision %d: %d keys were loaded, the recording has %d", at, len(got), len(want))
		}
		for i, kv := range want {
			complete := kv.CreateRevision == got[i].CreateRevision
			if string(got[i].Key) != string(kv.Key) || string(got[i].Value) != string(kv.Value) || got[i].ModRevision != kv.ModRevision ||
				got[i].CreateRevision < kv.CreateRevision || got[i].Version > kv.Version || complete && kv.CreateRevision > expected.CompactRevision && got[i].Version != kv.Version {
				t.Fatalf("revision %d: loaded %s, recorded %s", at, brief(got[i]), brief(kv))
			}
		}
	}
}
