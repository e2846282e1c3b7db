package consensus

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
)

// crowdMin is how many requests at a time make a crowd.
const crowdMin = 2

// hurryTurns bounds the turns that somebody takes who only has something for one.
const hurryTurns = 8

// crowd is whether requests come together.
type crowd struct {
	now, before atomic.Bool // since the last tick, and between it and the one before
}

// note takes note of so many that did: entries of an append, or readers that one question serves.
func (c *crowd) note(together int) {
	if together >= crowdMin {
		c.now.Store(true)
	}
}

func (c *crowd) present() bool { return c.now.Load() || c.before.Load() }

func (c *crowd) tick() { c.before.Store(c.now.Swap(false)) }

// hurry sees to it that what was put into the inbox gets its turn. Where requests come one by one, the caller takes the turn himself:
// to wake another goroutine for it wakes a thread, which takes longer than the turn, and on few processors it takes the time of
// who works for the same request. Where many come the raft loop takes it, so that all who can run put theirs in before.
//
// A turn does not block, so nor does the caller, but he must hold no lock that a turn takes.
func (n *Node) hurry() {
	if !n.started.Load() || n.crowd.present() || !n.turning.TryLock() {
		n.inbox.signal() // whoever has the lock may have looked into the inbox before
		return
	}
	defer endAtPanic()
	again := true
	for i := 0; i < hurryTurns && again; i++ {
		again = !n.stopping() && n.Turn()
	}
	n.turning.Unlock()
	if again {
		n.inbox.signal()
	}
}

// endAtPanic ends the process when a turn has panicked, which says that an invariant is broken, although the goroutine may be that of a
// server of requests that goes on after panics.
func endAtPanic() {
	if p := recover(); p != nil {
		trace := debug.Stack()
		go func() { panic(fmt.Sprintf("%v\n\nin a turn of the raft loop:\n%s", p, trace)) }()
		select {}
	}
}
