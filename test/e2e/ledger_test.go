package e2e

import (
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// The two keys that every client writes together, with equal values, in one transaction.
const (
	pairA = "pair/a"
	pairB = "pair/b"
)

// outcome is what is known of a key that is written once (and perhaps deleted once).
type outcome struct {
	value    string
	revision int64 // of the put; 0 while no answer has come
	doubtful bool  // sent without an answer: it may be there or not
	// deleteSent and deleted tell of the deletion; sent without an answer it may have happened or not.
	deleteSent, deleted bool
}

// ledger is what the clients have been told, and what they asked without being told.
// A server that was killed must hold all of the former and may hold any of the latter.
//
// The lock guards all fields. Clients write during a round; between rounds only the test reads and corrects.
type ledger struct {
	mu       sync.Mutex
	once     map[string]*outcome
	counters map[string]int   // the last acknowledged value of each client's counter
	tried    map[string]int   // the last value sent
	pairs    map[string]int64 // value of the pair → revision, 0 without an answer
	answered map[int64]string // write revision → key; a revision is given to one write only
	highest  int64            // the highest revision that any answer has shown
	writes   int              // acknowledged, over all rounds
	ending   bool             // the server has been told to end, or killed: requests may fail from now on
	faults   []string
}

func newLedger() *ledger {
	return &ledger{
		once: make(map[string]*outcome), counters: make(map[string]int), tried: make(map[string]int),
		pairs: make(map[string]int64), answered: make(map[int64]string), highest: 1,
	}
}

// faultLocked notes something that must not have happened.
func (l *ledger) faultLocked(format string, args ...any) {
	if len(l.faults) < 20 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// failed notes that a request got no answer, which only the end of the server may cause.
func (l *ledger) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ending {
		l.faultLocked("a request failed before the server was told to end: %v", err)
	}
}

func (l *ledger) setEnding(ending bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = ending
}

// acknowledgedLocked notes the revision that a write was answered with.
func (l *ledger) acknowledgedLocked(revision int64, what string) {
	if before, ok := l.answered[revision]; ok {
		l.faultLocked("revision %d was given to %s and to %s", revision, before, what)
	}
	l.answered[revision] = what
	l.highest = max(l.highest, revision)
	l.writes++
}

// revisionSeen is the highest revision shown so far; an answer to a later request may not show a lower one.
func (l *ledger) revisionSeen() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.highest
}

// read notes the revision that a linearizable read was answered with, begun when seen was the highest.
func (l *ledger) read(seen, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision < seen {
		l.faultLocked("a read was answered at revision %d after revision %d had been shown", revision, seen)
	}
	l.highest = max(l.highest, revision)
}

// check compares the whole store, read at a revision after a restart, with the ledger. What was in doubt is known then.
func (l *ledger) check(revision int64, kvs []*mvccpb.KeyValue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision < l.highest {
		l.faultLocked("after the restart the revision is %d, before it %d had been shown", revision, l.highest)
	}
	l.highest = max(l.highest, revision)
	found := make(map[string]*mvccpb.KeyValue, len(kvs))
	for _, kv := range kvs {
		found[string(kv.Key)] = kv
	}
	l.checkOnceLocked(found)
	l.checkCountersLocked(found)
	l.checkPairLocked(found[pairA], found[pairB])
	for key := range found {
		if strings.HasPrefix(key, "once/") && l.once[key] == nil {
			l.faultLocked("%q is there, and nobody wrote it", key)
		}
	}
}

func (l *ledger) checkOnceLocked(found map[string]*mvccpb.KeyValue) {
	for key, o := range l.once {
		kv := found[key]
		switch {
		case o.deleted && kv != nil:
			l.faultLocked("%q is back after its deletion was acknowledged", key)
		case kv == nil && o.revision != 0 && !o.deleteSent:
			l.faultLocked("%q, acknowledged at revision %d, is gone", key, o.revision)
		case kv != nil && (string(kv.Value) != o.value || o.revision != 0 && kv.ModRevision != o.revision):
			l.faultLocked("%q: %s, acknowledged at revision %d with another value or revision", key, brief(kv), o.revision)
		}
		if kv != nil {
			o.revision, o.deleteSent, o.doubtful = kv.ModRevision, false, false
		} else if o.doubtful || o.deleteSent {
			delete(l.once, key) // it must not come later either: then nobody wrote it
		}
	}
}

func (l *ledger) checkCountersLocked(found map[string]*mvccpb.KeyValue) {
	for key, sent := range l.tried {
		value := 0
		if kv := found[key]; kv != nil {
			fmt.Sscan(string(kv.Value), &value)
			if int64(value) != kv.Version {
				l.faultLocked("%q has the value %d at its version %d: a write is missing or came twice", key, value, kv.Version)
			}
		}
		if value < l.counters[key] || value > sent {
			l.faultLocked("%q is %d, acknowledged was %d, sent %d", key, value, l.counters[key], sent)
		}
		l.counters[key], l.tried[key] = value, value
	}
}

func (l *ledger) checkPairLocked(a, b *mvccpb.KeyValue) {
	if a == nil && b == nil && len(l.pairs) == 0 {
		return
	}
	if torn(a, b) {
		l.faultLocked("half a transaction: %v and %v", a, b)
		return
	}
	newest := int64(0)
	for _, revision := range l.pairs {
		newest = max(newest, revision)
	}
	if a == nil {
		if newest != 0 {
			l.faultLocked("the pair, acknowledged at revision %d, is gone", newest)
		}
		return
	}
	revision, sent := l.pairs[string(a.Value)]
	if !sent || revision != 0 && revision != a.ModRevision || a.ModRevision < newest {
		l.faultLocked("the pair is %s; it was sent %v, acknowledged at %d, and the newest acknowledged is %d", brief(a), sent, revision, newest)
	}
	clear(l.pairs)
	l.pairs[string(a.Value)] = a.ModRevision
}

// torn tells whether two keys that are only ever written together differ.
func torn(a, b *mvccpb.KeyValue) bool {
	if a == nil || b == nil {
		return a != b
	}
	return string(a.Value) != string(b.Value) || a.ModRevision != b.ModRevision || a.Version != b.Version
}
