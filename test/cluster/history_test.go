package cluster

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is one request of a client, from before it was sent to after the answer came.
type operation struct {
	client     int
	request    request
	answer     answer
	begin, end time.Duration // since the history began
}

// writes says whether the operation is known to have changed something.
func (o *operation) writes() bool {
	return !o.answer.unknown && (o.request.kind == put || o.answer.done)
}

// history is what clients did. It may be used from any goroutine.
type history struct {
	began time.Time

	mu      sync.Mutex
	ops     []operation
	refused []operation // for want of space
	tights  []tight
}

// tight is a time in which the members had no space left, and all of them knew.
type tight struct{ begin, end time.Duration }

// now is the time since the history began; the clock never goes back.
func (h *history) now() time.Duration { return time.Since(h.began) }

func (h *history) add(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// refuse notes an operation that was refused for want of space.
func (h *history) refuse(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = append(h.refused, o)
}

func (h *history) refusals() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.refused)
}

// tight notes that there was no space from one time to another.
func (h *history) tight(begin, end time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tights = append(h.tights, tight{begin, end})
}

// checkSpace checks that nothing was put while there was no space, that what was refused for that never happened, and that what needs none was not refused.
func (h *history) checkSpace(written map[string]bool) (wrong []string) {
	for _, o := range h.refused {
		if o.request.kind == get || o.request.kind == remove {
			wrong = append(wrong, fmt.Sprintf("for want of space was refused what needs none: %+v", o))
		} else if written[o.request.value] {
			wrong = append(wrong, fmt.Sprintf("for want of space was refused what happened: %+v", o))
		}
	}
	for _, t := range h.tights {
		for _, o := range h.ops {
			if o.begin >= t.begin && o.end <= t.end && o.writes() && o.request.kind != remove {
				wrong = append(wrong, fmt.Sprintf("with no space left from %v to %v there was a put: %+v", t.begin, t.end, o))
			}
		}
	}
	return wrong
}

// groups are the operations for porcupine. Left out are reads without an answer, which say nothing, and writes without one whose
// value never was in the store: whoever has seen it after all will have no explanation for it.
func (h *history) groups(written map[string]bool) map[int][]porcupine.Operation {
	out := map[int][]porcupine.Operation{}
	for _, o := range h.ops {
		end := int64(o.end)
		if o.answer.unknown {
			if o.request.kind == get || o.request.kind != remove && !written[o.request.value] {
				continue
			}
			end = never
		}
		out[o.request.group] = append(out[o.request.group], porcupine.Operation{
			ClientId: o.client, Input: o.request, Output: o.answer, Call: int64(o.begin), Return: end,
		})
	}
	return out
}

// checkRevisions checks over all groups that an operation that began after another one had ended was told no lower revision, and
// a higher one when it is a write. It returns what is wrong.
func (h *history) checkRevisions() (wrong []string) {
	known := make([]*operation, 0, len(h.ops))
	for i := range h.ops {
		if !h.ops[i].answer.unknown {
			known = append(known, &h.ops[i])
		}
	}
	byEnd := slices.Clone(known)
	slices.SortFunc(known, func(a, b *operation) int { return int(a.begin - b.begin) })
	slices.SortFunc(byEnd, func(a, b *operation) int { return int(a.end - b.end) })
	var highest *operation
	for _, o := range known {
		for len(byEnd) > 0 && byEnd[0].end < o.begin {
			if highest == nil || byEnd[0].answer.revision > highest.answer.revision {
				highest = byEnd[0]
			}
			byEnd = byEnd[1:]
		}
		if highest == nil {
			continue
		}
		if got, before := o.answer.revision, highest.answer.revision; got < before || got == before && o.writes() {
			wrong = append(wrong, fmt.Sprintf("%+v was told revision %d after %+v", *o, got, *highest))
		}
	}
	return wrong
}

// checkAgainst compares every answer with the final history of the keys: what was acknowledged is there, at its revision, and every
// read saw the keys as they were at the revision that it was told.
func (h *history) checkAgainst(t *timeline, key func(group, key int) string) (wrong []string) {
	for i := range h.ops {
		o := &h.ops[i]
		if o.answer.unknown {
			continue
		}
		before := o.answer.revision
		if o.writes() {
			before--
		}
		for k := range groupKeys {
			if !o.request.has(k) {
				continue
			}
			name := key(o.request.group, k)
			if found := t.at(name, before); found != o.answer.keys[k] {
				wrong = append(wrong, fmt.Sprintf("%s is %+v at revision %d, but a client was told otherwise: %+v", name, found, before, *o))
			}
			if !o.writes() {
				continue
			}
			after := t.at(name, o.answer.revision)
			if o.request.kind == remove && after != (register{}) || o.request.kind != remove && (after.value != o.request.value || after.mod != o.answer.revision) {
				wrong = append(wrong, fmt.Sprintf("%s is %+v at revision %d, without what was acknowledged: %+v", name, after, o.answer.revision, *o))
			}
		}
	}
	return wrong
}

// checkSent checks that nothing is in the store that nobody wrote.
func (h *history) checkSent(t *timeline, prefix string) (wrong []string) {
	sent := map[string]bool{}
	for _, o := range h.ops {
		sent[o.request.value] = true
	}
	for _, e := range t.events {
		if e.deleted || len(e.key) < len(prefix) || e.key[:len(prefix)] != prefix {
			continue
		}
		if !sent[e.value] {
			wrong = append(wrong, fmt.Sprintf("nobody wrote %+v", e))
		}
	}
	return wrong
}
