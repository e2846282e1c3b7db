package cluster

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// TestALockOutlastsTheLeader: the leader dies while one client owns a lock and another waits for it at another member. The owner
// stays the owner, and the other one is the next, and the only one.
func TestALockOutlastsTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	leader := c.leader()
	rest := c.others(leader)
	one, two := c.client(rest[0]), c.client(rest[1])
	lock := func(cl *clientv3.Client) (*lockpb.LockResponse, error) {
		lease, err := cl.Grant(c.within(), 3600)
		if err != nil {
			return nil, err
		}
		return lockpb.NewLockClient(cl.ActiveConnection()).Lock(c.within(), &lockpb.LockRequest{Name: []byte("n"), Lease: int64(lease.ID)})
	}
	write := func(cl *clientv3.Client, r *lockpb.LockResponse) bool {
		t.Helper()
		var out *clientv3.TxnResponse
		c.again("a write", func() (err error) {
			out, err = cl.Txn(c.within()).If(clientv3.Compare(clientv3.CreateRevision(string(r.GetKey())), ">", 0)).
				Then(clientv3.OpPut("data", string(r.GetKey()))).Commit()
			return err
		})
		return out.Succeeded
	}
	first, err := lock(one)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		r   *lockpb.LockResponse
		err error
	}
	waiting := make(chan answer, 1)
	go func() {
		r, err := lock(two)
		waiting <- answer{r, err}
	}()
	c.eventually("both stand in the line", func() bool {
		r, err := one.Get(c.within(), "n/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && r.Count == 2
	})
	leader.kill(t)
	c.leader(rest...)
	c.eventually("the owner may write under the new leader", func() bool {
		_, err := one.Get(c.within(), "n/")
		return err == nil
	})
	if !write(one, first) {
		t.Error("the owner lost the lock with the leader")
	}
	select {
	case a := <-waiting:
		t.Fatalf("a second owner: %v, %v", a.r, a.err)
	default:
	}
	c.again("giving the lock up", func() error {
		_, err := lockpb.NewLockClient(one.ActiveConnection()).Unlock(c.within(), &lockpb.UnlockRequest{Key: first.GetKey()})
		return err
	})
	next := <-waiting
	if next.err != nil {
		t.Fatal(next.err)
	}
	if write(one, first) || !write(two, next.r) {
		t.Error("one that has given up the lock may write, or the owner may not")
	}
}
