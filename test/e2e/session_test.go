package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// level is the etcd that we speak; clients decide by it what they may ask for.
const level = "3.7.1"

// TestFirstSession is what a newcomer does first: put, get, delete, a transaction.
func TestFirstSession(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	c, ctx := m.connect(t), within(t, process.Patience)

	put, err := c.Put(ctx, "greeting", "hello")
	noError(t, err)
	wantRevision(t, put.Header.Revision, 2)
	put, err = c.Put(ctx, "greeting", "hello, world", clientv3.WithPrevKV())
	noError(t, err)
	if string(put.PrevKv.GetValue()) != "hello" {
		t.Errorf("the value before the put: got %q, want %q", put.PrevKv.GetValue(), "hello")
	}

	got, err := c.Get(ctx, "greeting")
	noError(t, err)
	if kv := got.Kvs[0]; string(kv.Value) != "hello, world" || kv.CreateRevision != 2 || kv.ModRevision != 3 || kv.Version != 2 {
		t.Errorf("got %s", brief(kv))
	}
	old, err := c.Get(ctx, "greeting", clientv3.WithRev(2), clientv3.WithSerializable())
	noError(t, err)
	if string(old.Kvs[0].Value) != "hello" || old.Header.Revision != 3 {
		t.Errorf("at revision 2: got %s, header revision %d", brief(old.Kvs[0]), old.Header.Revision)
	}

	swap := func(from, to string) *clientv3.TxnResponse {
		t.Helper()
		answer, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value("greeting"), "=", from)).
			Then(clientv3.OpPut("greeting", to), clientv3.OpPut("swapped", "yes")).
			Else(clientv3.OpGet("greeting")).Commit()
		noError(t, err)
		return answer
	}
	if answer := swap("hello, world", "bye"); !answer.Succeeded || answer.Header.Revision != 4 {
		t.Errorf("the transaction whose compare holds: got %v", answer)
	}
	answer := swap("hello, world", "again")
	if answer.Succeeded || answer.Header.Revision != 4 || string(answer.Responses[0].GetResponseRange().Kvs[0].Value) != "bye" {
		t.Errorf("the transaction whose compare fails: got %v", answer)
	}

	deleted, err := c.Delete(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	noError(t, err)
	if deleted.Deleted != 2 || len(deleted.PrevKvs) != 2 || deleted.Header.Revision != 5 {
		t.Errorf("the deletion of all: got %v", deleted)
	}
	_, err = c.Get(ctx, "greeting", clientv3.WithRev(99))
	if !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("a read in the future: got %v, want %v", err, rpctypes.ErrFutureRev)
	}
	s.stop(t)
}

func TestMemberTellsWhatItIs(t *testing.T) {
	t.Parallel()
	m := newMember(t, "--name", "alpha")
	m.start(t)
	c, ctx := m.connect(t), within(t, process.Patience)
	_, err := c.Put(ctx, "key", "value")
	noError(t, err)

	status, err := c.Status(ctx, m.client)
	noError(t, err)
	h := status.Header
	if status.Version != level || status.Leader != h.MemberId || h.MemberId == 0 || h.ClusterId == 0 || h.Revision != 2 ||
		status.RaftIndex == 0 || status.RaftTerm == 0 || status.RaftAppliedIndex == 0 || status.IsLearner || len(status.Errors) != 0 || status.DbSize <= 0 {
		t.Errorf("status: got %v", status)
	}

	list, err := c.MemberList(ctx)
	noError(t, err)
	if len(list.Members) != 1 || list.Header.ClusterId != h.ClusterId {
		t.Fatalf("member list: got %v", list)
	}
	if me := list.Members[0]; me.ID != h.MemberId || me.Name != "alpha" || !slices.Equal(me.ClientURLs, []string{m.client}) ||
		!slices.Equal(me.PeerURLs, []string{m.peer}) || me.IsLearner {
		t.Errorf("member list: got %v", me)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.client+"/version", nil)
	noError(t, err)
	answer, err := http.DefaultClient.Do(request)
	noError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	noError(t, err)
	var version struct{ Etcdserver, Etcdcluster string }
	if err := json.Unmarshal(body, &version); err != nil || version.Etcdserver != level || version.Etcdcluster != "3.7.0" {
		t.Errorf("/version: got %s (%v)", body, err)
	}
}

// TestDataDirectoryIsNamedAfterTheMember starts without --data-dir; under the name etcd the directory is named as etcd names it.
func TestDataDirectoryIsNamedAfterTheMember(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ calledAs, want string }{{"ashlar", "alpha.ashlar"}, {"etcd", "alpha.etcd"}} {
		t.Run("called as "+test.calledAs, func(t *testing.T) {
			t.Parallel()
			if !program.ours && test.calledAs != "etcd" {
				t.Skip("etcd knows one name only")
			}
			m := newMember(t, "--name", "alpha")
			m.withoutData, m.binary = true, filepath.Join(t.TempDir(), test.calledAs)
			noError(t, os.Symlink(program.path, m.binary))
			m.start(t).stop(t)
			entries, err := os.ReadDir(m.workingDir)
			noError(t, err)
			if len(entries) != 1 || entries[0].Name() != test.want {
				t.Errorf("the working directory holds %v, want %s alone", entries, test.want)
			}
		})
	}
}

// TestCleanStopLeavesNothingToReplay starts on a loaded store after SIGTERM. How long that takes a benchmark tells.
func TestCleanStopLeavesNothingToReplay(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	fill(t, c, 50_000)
	s.stop(t)

	s = m.start(t)
	answer, err := m.connect(t).Get(within(t, process.Patience), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	noError(t, err)
	if answer.Count != 50_000 {
		t.Errorf("got %d keys, want 50000", answer.Count)
	}
	if line := s.Log.Last(`"msg":"starting"`); program.ours && !strings.Contains(line, `"entries-to-replay":0`) {
		t.Errorf("it has to apply something again: %s", line)
	}
}
