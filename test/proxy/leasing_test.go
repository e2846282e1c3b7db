package proxy

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"

	"github.com/ashlar-kv/ashlar/internal/proxy"
)

// runOwner starts a proxy that owns keys; seconds is how long it does so when it is gone.
func runOwner(t *testing.T, address string, seconds int64, flags ...string) *running {
	t.Helper()
	return runProcess(t, proxy.Process{OwnSeconds: seconds, Args: append([]string{"grpc-proxy", "start", "--listen-addr=127.0.0.1:0",
		"--endpoints=" + address, "--experimental-leasing-prefix=own/"}, flags...)})
}

// own reads a key until the proxy has its title.
func own(t *testing.T, c, direct *clientv3.Client, key, title string) {
	t.Helper()
	eventually(t, "the key is owned", func() bool {
		must[*clientv3.GetResponse](t)(c.Get(soon(t), key))
		r := must[*clientv3.GetResponse](t)(direct.Get(soon(t), title))
		return len(r.Kvs) == 1 && r.Kvs[0].Lease != 0 && len(r.Kvs[0].Value) == 0
	})
}

func TestOwnedKeysAreReadWithoutAMember(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runOwner(t, up.address, 600, "--namespace=ns/")
	c, direct := p.client(t), client(t, up.address)
	ctx := soon(t)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "1"))
	own(t, c, direct, "k", "ns/own/k")
	own(t, c, direct, "absent", "ns/own/absent")
	put := must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "2", clientv3.WithPrevKV()))
	if string(put.PrevKv.GetKey()) != "k" || string(put.PrevKv.GetValue()) != "1" {
		t.Errorf("the pair before was %v", put.PrevKv)
	}
	txn := must[*clientv3.TxnResponse](t)(c.Txn(ctx).If(clientv3.Compare(clientv3.Value("k"), "=", "2")).
		Then(clientv3.OpPut("k", "3"), clientv3.OpPut("other", "x"), clientv3.OpGet("k")).Commit())
	if r := txn.Responses; !txn.Succeeded || len(r) != 3 || string(r[2].GetResponseRange().Kvs[0].Value) != "3" || txn.Header.Revision != put.Header.Revision+1 {
		t.Errorf("the transaction: %v", txn)
	}
	want := must[*clientv3.GetResponse](t)(direct.Get(ctx, "ns/k")).Kvs[0]
	up.end(t)
	got := must[*clientv3.GetResponse](t)(c.Get(ctx, "k"))
	if kv := got.Kvs[0]; string(kv.Key) != "k" || string(kv.Value) != "3" || kv.ModRevision != want.ModRevision ||
		kv.CreateRevision != want.CreateRevision || kv.Version != want.Version || got.Header.Revision < txn.Header.Revision || got.Count != 1 {
		t.Errorf("without the member: %v, want %v", got, want)
	}
	if got := must[*clientv3.GetResponse](t)(c.Get(ctx, "k", clientv3.WithKeysOnly())); len(got.Kvs) != 1 || len(got.Kvs[0].Value) != 0 {
		t.Errorf("keys only: %v", got)
	}
	if got := must[*clientv3.GetResponse](t)(c.Get(ctx, "k", clientv3.WithCountOnly())); len(got.Kvs) != 0 || got.Count != 1 {
		t.Errorf("count only: %v", got)
	}
	if got := must[*clientv3.GetResponse](t)(c.Get(ctx, "absent")); len(got.Kvs) != 0 || got.Count != 0 {
		t.Errorf("a key that is not there: %v", got)
	}
	up.start(t)
	eventually(t, "writes go on", func() bool {
		_, err := c.Put(ctx, "k", "4")
		return err == nil
	})
	if got := must[*clientv3.GetResponse](t)(c.Get(ctx, "k")); string(got.Kvs[0].Value) != "4" {
		t.Errorf("after the last write: %v", got.Kvs)
	}
}

func TestAWriteElsewhereTakesAKeyFromItsOwner(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	a, b := runOwner(t, up.address, 600).client(t), runOwner(t, up.address, 600).client(t)
	direct := client(t, up.address)
	ctx := soon(t)
	for name, write := range map[string]func(key string) error{
		"a put":                 func(key string) error { _, err := b.Put(ctx, key, "new"); return err },
		"a deletion":            func(key string) error { _, err := b.Delete(ctx, key); return err },
		"a deletion of a range": func(key string) error { _, err := b.Delete(ctx, key, clientv3.WithPrefix()); return err },
		"a put with a lease":    func(key string) error { return putWithLease(ctx, b, key) },
		"a nested transaction": func(key string) error {
			_, err := b.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key, "new")}, nil)).Commit()
			return err
		},
		"a deletion through the owner":            func(key string) error { _, err := a.Delete(ctx, key); return err },
		"a deletion of a range through the owner": func(key string) error { _, err := a.Delete(ctx, key, clientv3.WithPrefix()); return err },
		"a put with a lease through the owner":    func(key string) error { return putWithLease(ctx, a, key) },
		"a value that is kept through the owner": func(key string) error {
			lease, err := a.Grant(ctx, 600)
			if err != nil {
				return err
			}
			_, err = a.Put(ctx, key, "", clientv3.WithIgnoreValue(), clientv3.WithLease(lease.ID))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := "k/" + name
			must[*clientv3.PutResponse](t)(a.Put(ctx, key, "old"))
			own(t, a, direct, key, "own/"+key)
			if err := write(key); err != nil {
				t.Fatal(err)
			}
			want := must[*clientv3.GetResponse](t)(direct.Get(ctx, key))
			for who, c := range map[string]*clientv3.Client{"the owner": a, "the other": b} {
				got := must[*clientv3.GetResponse](t)(c.Get(ctx, key))
				if fmt.Sprint(got.Kvs) != fmt.Sprint(want.Kvs) {
					t.Errorf("%s has %v, want %v", who, got.Kvs, want.Kvs)
				}
			}
			if len(want.Kvs) == 1 && want.Kvs[0].Lease != 0 { // whoever ends a lease asks no owner
				must[*clientv3.LeaseRevokeResponse](t)(direct.Revoke(ctx, clientv3.LeaseID(want.Kvs[0].Lease)))
				if got := must[*clientv3.GetResponse](t)(a.Get(ctx, key)); len(got.Kvs) != 0 {
					t.Errorf("its lease has ended, and there is %v", got.Kvs)
				}
			}
		})
	}
}

func putWithLease(ctx context.Context, c *clientv3.Client, key string) error {
	lease, err := c.Grant(ctx, 600)
	if err != nil {
		return err
	}
	_, err = c.Put(ctx, key, "new", clientv3.WithLease(lease.ID))
	return err
}

// TestOwnersNeverAnswerWhatIsOld has two proxies and etcd's client library write and read the same keys: a read never finds less
// than what was acknowledged before it began.
func TestOwnersNeverAnswerWhatIsOld(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	ctx := soon(t)
	direct := client(t, up.address)
	library, done, err := leasing.NewKV(direct, "own/")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	ways := []clientv3.KV{runOwner(t, up.address, 600).client(t), runOwner(t, up.address, 600).client(t), library}
	const keys, rounds = 2, 20
	var acknowledged [keys]atomic.Int64
	var all sync.WaitGroup
	number := func(r *clientv3.GetResponse) int64 {
		if len(r.Kvs) == 0 {
			return 0
		}
		n, err := strconv.ParseInt(string(r.Kvs[0].Value), 10, 64)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	for n := range keys { // each key has one writer, which goes another way each time
		key := fmt.Sprint("k", n)
		all.Go(func() {
			for i := range int64(rounds) {
				if _, err := ways[i%int64(len(ways))].Put(ctx, key, fmt.Sprint(i+1)); err != nil {
					t.Errorf("write %d: %v", i+1, err)
					return
				}
				acknowledged[n].Store(i + 1)
			}
		})
		for w, way := range ways[:2] {
			all.Go(func() {
				for least := int64(0); least < rounds && ctx.Err() == nil; {
					least = acknowledged[n].Load()
					r, err := way.Get(ctx, key)
					if err != nil {
						t.Errorf("a read: %v", err)
						return
					}
					if got := number(r); got < least {
						t.Errorf("by way %d %s is %d after %d was acknowledged", w, key, got, least)
						return
					}
				}
			})
		}
	}
	all.Wait()
}

// TestAnOwnerThatIsCutOffOwnsNothingAfterAWhile: neither a crash nor a broken network keeps others from writing for ever, and
// who writes then makes no answer of the former owner untrue.
func TestAnOwnerThatIsCutOffOwnsNothingAfterAWhile(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	way := runCommand(t, "gateway", "start", "--listen-addr=127.0.0.1:0", "--endpoints="+up.address)
	a, b := runOwner(t, way.addresses[0], 3).client(t), runOwner(t, up.address, 3).client(t)
	ctx := soon(t)
	must[*clientv3.PutResponse](t)(a.Put(ctx, "k", "old"))
	own(t, a, client(t, up.address), "k", "own/k")
	way.stop()
	must[*clientv3.PutResponse](t)(b.Put(ctx, "k", "new"))
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if r, err := a.Get(short, "k"); err == nil {
		t.Errorf("an owner of former times answers %v", r.Kvs)
	}
}

func TestNothingIsOwnedWhereRightsCount(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runOwner(t, up.address, 3)
	direct := client(t, up.address)
	ctx := soon(t)
	must[*clientv3.PutResponse](t)(direct.Put(ctx, "k", "v"))
	anybody := p.client(t)
	own(t, anybody, direct, "k", "own/k")
	for _, err := range []error{
		second(direct.UserAdd(ctx, "root", "root")), second(direct.UserGrantRole(ctx, "root", "root")), second(direct.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a read without a token is refused", func() bool {
		_, err := anybody.Get(ctx, "k")
		return err != nil
	})
	root, directly := p.client(t, as("root")), client(t, up.address, as("root"))
	must[*clientv3.GetResponse](t)(root.Get(ctx, "k"))
	must[*clientv3.PutResponse](t)(root.Put(ctx, "k", "new"))
	must[*clientv3.PutResponse](t)(directly.Put(ctx, "k", "newest")) // asks no owner: there must be none
	if got := must[*clientv3.GetResponse](t)(root.Get(ctx, "k")); string(got.Kvs[0].Value) != "newest" {
		t.Errorf("got %v", got.Kvs)
	}
	if _, err := root.Put(ctx, "", "x"); err == nil || err.Error() != rpctypes.ErrEmptyKey.Error() {
		t.Errorf("an empty key: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
