package rpc

import (
	"time"

	"github.com/ashlar-kv/ashlar/internal/watch"
)

// tallyMax is how many messages of a stream are counted at once at most.
const tallyMax = 32

// watchTally counts what a watch stream writes, several messages of one kind at once: to look at the clock, and to add to what all streams add to, for
// each of them would be a tenth of what it costs.
type watchTally struct {
	measures *Measures
	begin    time.Time // of the first message; zero when the next one waits for nothing that was written
	kind     watchKind
	n        int // messages
	events   int // in them
	bytes    int
}

// watchKind is what a message counts as.
type watchKind uint8

const (
	watchOfEvents watchKind = iota
	watchOfControl
	watchOfProgress
)

func kindOf(m *watch.Message) watchKind {
	switch {
	case len(m.Events) > 0:
		return watchOfEvents
	case m.Created || m.Canceled:
		return watchOfControl
	default:
		return watchOfProgress
	}
}

// start is called before a message is encoded.
func (t *watchTally) start(m *watch.Message) {
	if kind := kindOf(m); kind != t.kind {
		t.tell()
		t.kind = kind
	}
	if t.begin.IsZero() {
		t.begin = time.Now()
	}
}

// wrote counts the message that start was called with, and that took so many bytes.
func (t *watchTally) wrote(m *watch.Message, bytes int) {
	t.n++
	t.events += len(m.Events)
	t.bytes += bytes
	if t.n == tallyMax {
		t.tell()
	}
}

// rest says that what comes next is not written right after what was counted.
func (t *watchTally) rest() {
	t.tell()
	t.begin = time.Time{}
}

// tell adds what was counted to the measures. The time counts for all messages alike if it is within the first bound, and as that of one of them
// otherwise: then one has waited, for the client mostly.
func (t *watchTally) tell() {
	if t.n == 0 {
		return
	}
	end := time.Now()
	took := end.Sub(t.begin)
	switch t.kind {
	case watchOfEvents:
		t.measures.WatchEvents.TookTogether(took, t.n)
		t.measures.WatchEventsEach.TookTogether(took*time.Duration(t.n)/time.Duration(t.events), t.n)
	case watchOfControl:
		t.measures.WatchControls.TookTogether(took, t.n)
	default:
		t.measures.WatchProgress.TookTogether(took, t.n)
	}
	t.measures.BytesSent.Add(uint64(t.bytes))
	t.begin, t.n, t.events, t.bytes = end, 0, 0, 0
}
