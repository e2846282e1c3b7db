package rpc

import (
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// reserveStep is how much large responses hold for each piece that is taken from the cache.
	reserveStep = 16 << 20
	// giveBackFrom is how much responses must have held for their memory to go back to the system.
	giveBackFrom = 64 << 20
	// giveBackEvery is how long at least lies between two such times: each costs two garbage collections, and faults on
	// the pages when the next large response is built.
	giveBackEvery = 5 * time.Second
)

// excess is what keeps the memory of the whole process down while large responses are held, and after them. The cache gives
// up as much as they hold. What they leave in pools counts as live memory, which the collector lets grow threefold by
// garbage of small requests: it goes back to the system once no response is held any more.
type excess struct {
	reserve  func(bytes int64) (release func()) // nil when there is no cache
	reserved []func()                           // one for each reserveStep held
	most     int64                              // the most that was held since memory last went back
	returned time.Time                          // when that was
	pending  bool                               // it is about to
	giveBack func()                             // returnMemory, but in tests
}

// follow does what is due after what is held has changed. REQUIRES: mu is held.
func (b *budget) follow() {
	held := b.building + b.writing
	for b.reserve != nil && int64(len(b.reserved)+1)*reserveStep <= held {
		b.reserved = append(b.reserved, b.reserve(reserveStep))
	}
	for last := len(b.reserved) - 1; last >= 0 && int64(last+1)*reserveStep > held; last-- {
		b.reserved[last]()
		b.reserved = b.reserved[:last]
	}
	b.most = max(b.most, held)
	if held > 0 || b.most < giveBackFrom || b.pending {
		return
	}
	b.pending = true
	b.clock.AfterFunc(max(0, giveBackEvery-b.clock.Now().Sub(b.returned)), b.returnUnused)
}

// returnUnused gives memory back unless a response is being held again: then that is done after it.
func (b *budget) returnUnused() {
	b.mu.Lock()
	b.pending = false
	idle := b.building+b.writing == 0
	if idle {
		b.most, b.returned = 0, b.clock.Now()
	}
	b.mu.Unlock()
	if idle {
		b.giveBack()
	}
}

// returnMemory gives what is unused, in pools also, back to the system. A pool keeps what it has through one collection.
func returnMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}
