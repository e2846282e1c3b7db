package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// killWriter is a client of the kill test: one request at a time, until the first that fails. What it is about to send
// stands in the ledger before it is sent, as its end may be unknown.
type killWriter struct {
	c      *clientv3.Client
	l      *ledger
	name   int
	round  int
	random *rand.Rand
}

// run writes until the server is gone. It sends to answered once, after its first answer or when there is none.
func (w *killWriter) run(ctx context.Context, answered chan<- struct{}) {
	first := sync.OnceFunc(func() { answered <- struct{}{} })
	defer first()
	for i := 0; ; i++ {
		steps := []func(context.Context, int) error{w.writeOnce, w.count, w.writePair}
		if err := steps[i%len(steps)](ctx, i); err != nil {
			w.l.failed(err)
			return
		}
		first()
	}
}

// writeOnce puts a key of its own, and sometimes deletes it.
func (w *killWriter) writeOnce(ctx context.Context, i int) error {
	key := fmt.Sprintf("once/%d/%03d/%05d", w.name, w.round, i)
	o := &outcome{value: strings.Repeat(key, 1+w.random.IntN(40)), doubtful: true}
	w.l.mu.Lock()
	w.l.once[key] = o
	w.l.mu.Unlock()

	put, err := w.c.Put(ctx, key, o.value)
	if err != nil {
		return err
	}
	w.l.mu.Lock()
	o.revision, o.doubtful = put.Header.Revision, false
	w.l.acknowledgedLocked(put.Header.Revision, key)
	o.deleteSent = w.random.IntN(5) == 0
	goOn := !o.deleteSent
	w.l.mu.Unlock()
	if goOn {
		return nil
	}

	deleted, err := w.c.Delete(ctx, key)
	if err != nil {
		return err
	}
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	o.deleted, o.revision = true, 0
	w.l.acknowledgedLocked(deleted.Header.Revision, "the deletion of "+key)
	if deleted.Deleted != 1 {
		w.l.faultLocked("the deletion of %q, just written, deleted %d keys", key, deleted.Deleted)
	}
	return nil
}

// count raises this client's counter by one.
func (w *killWriter) count(ctx context.Context, _ int) error {
	key := "counter/" + strconv.Itoa(w.name)
	w.l.mu.Lock()
	next := w.l.counters[key] + 1
	w.l.tried[key] = next
	w.l.mu.Unlock()

	answer, err := w.c.Put(ctx, key, strconv.Itoa(next))
	if err != nil {
		return err
	}
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.l.counters[key] = next
	w.l.acknowledgedLocked(answer.Header.Revision, key)
	return nil
}

// writePair writes both keys of the pair in one transaction.
func (w *killWriter) writePair(ctx context.Context, i int) error {
	value := fmt.Sprintf("%d/%d/%d", w.round, w.name, i)
	w.l.mu.Lock()
	w.l.pairs[value] = 0
	w.l.mu.Unlock()

	answer, err := w.c.Txn(ctx).Then(clientv3.OpPut(pairA, value), clientv3.OpPut(pairB, value)).Commit()
	if err != nil {
		return err
	}
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.l.pairs[value] = answer.Header.Revision
	w.l.acknowledgedLocked(answer.Header.Revision, "the pair")
	return nil
}
