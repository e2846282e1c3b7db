package cluster

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// requestTime is how long one request of the load may take before it counts as undecided.
const requestTime = 3 * time.Second

// load is writers that count up, each in a key of its own, at whatever member answers, and read linearizably in between. What was
// acknowledged must be there, and nothing may be there that was not sent.
type load struct {
	*pulse
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	writers []*writer
	since   time.Time // what rate counts from, and base how many there were then
	base    int64
}

// writer is one of them; its fields are its goroutine's until that has ended.
type writer struct {
	key         string
	acked, sent int64
	// at is the revision that the key was found at. A write that nobody decided in time may happen much later: it must not
	// undo another one, so each write names the revision before it.
	at    int64
	known bool // at is up to date
}

// newLoad starts n writers on the members there are now.
func (c *cluster) newLoad(n int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{pulse: c.newPulse(), cancel: cancel}
	for i := range n {
		w := &writer{key: fmt.Sprintf("load/%d", i)}
		l.writers = append(l.writers, w)
		l.wg.Go(func() { l.run(ctx, w, i) })
	}
	c.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

// run writes and reads until ctx ends, at another member after each failure.
func (l *load) run(ctx context.Context, w *writer, turn int) {
	for ctx.Err() == nil {
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{l.endpoint(turn)}, Context: ctx})
		if err != nil {
			l.tb.Error(err)
			return
		}
		for err == nil && ctx.Err() == nil {
			err = l.step(ctx, cl, w)
		}
		cl.Close()
		if err != nil {
			l.failed.Add(1)
		}
		turn++
	}
}

// step writes the next number and reads it.
func (l *load) step(ctx context.Context, cl *clientv3.Client, w *writer) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if !w.known {
		return l.check(ctx, cl, w)
	}
	w.sent++
	w.known = false
	resp, err := cl.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(w.key), "=", w.at)).
		Then(clientv3.OpPut(w.key, strconv.FormatInt(w.sent, 10))).Commit()
	if err != nil {
		return err
	}
	if resp.Succeeded {
		w.acked, w.at, w.known = w.sent, resp.Header.Revision, true
		l.acknowledged()
	}
	return l.check(ctx, cl, w)
}

// check reads a writer's key and compares it with what it knows.
func (l *load) check(ctx context.Context, cl *clientv3.Client, w *writer) error {
	acked, sent := w.acked, w.sent
	resp, err := cl.Get(ctx, w.key)
	if err != nil {
		return err
	}
	var got int64
	w.at = 0
	if len(resp.Kvs) > 0 {
		got, _ = strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
		w.at = resp.Kvs[0].ModRevision
	}
	w.known = true
	if got < acked || got > sent {
		l.tb.Errorf("%s is %d at revision %d of member %x; %d was acknowledged, %d sent",
			w.key, got, resp.Header.Revision, resp.Header.MemberId, acked, sent)
	}
	return nil
}

// end ends the load and checks every key at every member.
func (l *load) end(c *cluster) {
	c.Helper()
	l.cancel()
	l.wg.Wait()
	var total int64
	for _, m := range c.members {
		for _, w := range l.writers {
			if err := l.check(c.within(), c.client(m), w); err != nil {
				c.Errorf("reading %s at %s: %v", w.key, m.name, err)
			}
		}
	}
	for _, w := range l.writers {
		total += w.acked
	}
	c.Logf("%d writes, %d failures", total, l.failed.Load())
	c.checkEqual()
}
