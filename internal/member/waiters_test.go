package member

import (
	"errors"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

func TestAWaiterEndsOnce(t *testing.T) {
	t.Parallel()
	begun := time.Unix(1000, 0)
	deadline := begun.Add(time.Second)
	failed := errors.New("failed")
	cases := map[string]struct {
		do    func(w *waiters, x *waiter)
		ended bool
		err   error
		known bool // it is still waited for
		gone  bool // and nobody would take a result
	}{
		"nothing has happened":         {do: func(*waiters, *waiter) {}, known: true},
		"its result comes":             {do: func(w *waiters, _ *waiter) { w.deliver(7, apply.Result{}) }, ended: true},
		"it fails":                     {do: func(w *waiters, _ *waiter) { w.deliver(7, apply.Result{Err: failed}) }, ended: true, err: failed},
		"another one's result comes":   {do: func(w *waiters, _ *waiter) { w.deliver(7+waiterShards, apply.Result{}) }, known: true},
		"a sweep before its deadline":  {do: func(w *waiters, _ *waiter) { w.expire(deadline.Add(-1), ErrTimeout) }, known: true},
		"a sweep at its deadline":      {do: func(w *waiters, _ *waiter) { w.expire(deadline, ErrTimeout) }, ended: true, err: ErrTimeout, gone: true},
		"all end":                      {do: func(w *waiters, _ *waiter) { w.end() }, ended: true, err: ErrStopped, gone: true},
		"all end after its result":     {do: func(w *waiters, _ *waiter) { w.deliver(7, apply.Result{}); w.end() }, ended: true},
		"all end after it gave up":     {do: func(w *waiters, x *waiter) { w.release(x); w.end() }, gone: true},
		"all end twice":                {do: func(w *waiters, _ *waiter) { w.end(); w.end() }, ended: true, err: ErrStopped, gone: true},
		"a result after the end":       {do: func(w *waiters, _ *waiter) { w.end(); w.deliver(7, apply.Result{}) }, ended: true, err: ErrStopped, gone: true},
		"it gives up":                  {do: func(w *waiters, x *waiter) { w.release(x) }, gone: true},
		"its result comes too late":    {do: func(w *waiters, x *waiter) { w.release(x); w.deliver(7, apply.Result{}) }, gone: true},
		"its result comes twice":       {do: func(w *waiters, _ *waiter) { w.deliver(7, apply.Result{}); w.deliver(7, apply.Result{Err: failed}) }, ended: true},
		"a result after the sweep":     {do: func(w *waiters, _ *waiter) { w.expire(deadline, ErrTimeout); w.deliver(7, apply.Result{}) }, ended: true, err: ErrTimeout, gone: true},
		"a sweep after its result":     {do: func(w *waiters, _ *waiter) { w.deliver(7, apply.Result{}); w.expire(deadline, ErrTimeout) }, ended: true},
		"it gives up after the result": {do: func(w *waiters, x *waiter) { w.deliver(7, apply.Result{}); w.release(x) }, ended: true, gone: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWaiters()
			x := new(waiter)
			w.register(x, 7, deadline)
			c.do(w, x)
			if w.has(7) != c.known || x.gone.Load() != c.gone {
				t.Errorf("known %v, gone %v; want %v, %v", w.has(7), x.gone.Load(), c.known, c.gone)
			}
			select {
			case r := <-x.out:
				if !c.ended || !errors.Is(r.Err, c.err) || (r.Err == nil) != (c.err == nil) {
					t.Errorf("it ended with %v", r.Err)
				}
			default:
				if c.ended {
					t.Error("it waits for ever")
				}
			}
			if len(x.out) != 0 {
				t.Error("there is a second result")
			}
		})
	}
}

func TestIDsAreUniqueOverMembersAndStarts(t *testing.T) {
	t.Parallel()
	begun := time.UnixMilli(1_700_000_000_000)
	seen := map[uint64]bool{}
	for _, member := range []uint64{0x10001, 0x2, 0xffff} {
		for start := range 20 { // a start every millisecond, with as many requests as fit into one
			var ids idSource
			ids.init(member, begun.Add(time.Duration(start)*time.Millisecond))
			for range 1 << 8 {
				id := ids.next()
				if seen[id] {
					t.Fatalf("%x was used by member %x before", id, member)
				}
				seen[id] = true
			}
		}
	}
}
