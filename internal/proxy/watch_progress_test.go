package proxy

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// TestAQuestionIsAnsweredByAMarkThatWasAskedForAfterIt: an earlier one may be from before a write that the client knows of.
func TestAQuestionIsAnsweredByAMarkThatWasAskedForAfterIt(t *testing.T) {
	t.Parallel()
	type step struct {
		ask  int     // the number of the session that asks, from 1; 0 is a mark that arrives
		mark int64   // its revision
		told []int64 // what the session that was named last is told then
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"two clients ask one after the other", []step{{ask: 1}, {ask: 2}, {mark: 5}, {mark: 9, told: []int64{9}}}},
		{"a client asks twice", []step{{ask: 1}, {ask: 1}, {mark: 5}, {mark: 9, told: []int64{9}}, {mark: 9}}},
		{"the first question is never answered", []step{{ask: 2}, {ask: 1}, {mark: 9}, {mark: 9, told: []int64{9}}}},
		{"a client asks over and over", []step{{ask: 1}, {ask: 1}, {ask: 1}, {mark: 5}, {ask: 1}, {mark: 6, told: []int64{6}},
			{mark: 7}, {ask: 1}, {mark: 7}, {mark: 8}, {mark: 9, told: []int64{9}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lab := newWatchLab(t)
			sessions := []*session{lab.session(), lab.session()}
			l := lab.shared(5, sessions...).channel.line
			var asks *session
			for i, step := range c.steps {
				if step.ask > 0 {
					asks = sessions[step.ask-1]
					lab.locked(asks.ask)
				} else {
					lab.hear(l, &etcdserverpb.WatchResponse{WatchId: unnumbered}, step.mark)
				}
				if got := progress(asks); !slices.Equal(got, step.told) {
					t.Fatalf("after step %d it is told %d, want %d", i, got, step.told)
				}
			}
		})
	}
}

// TestAQuestionIsAskedAnewWhenAnEarlierOneMayHaveNoAnswer: a member answers none while a watcher reads history.
func TestAQuestionIsAskedAnewWhenAnEarlierOneMayHaveNoAnswer(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	s, other := lab.session(), lab.session()
	lab.shared(5, other, lab.session())
	lab.locked(func() { s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("alone")}) })
	lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 5)
	insists := func(want bool) {
		t.Helper()
		lab.locked(func() {
			if got := s.line.insists(); got != want {
				t.Errorf("it asks again: %t, want %t", got, want)
			}
		})
	}
	lab.locked(s.ask)
	lab.locked(s.ask)
	insists(false) // as a member, which may not answer
	lab.hear(s.line, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 8)
	insists(true)
	lab.locked(func() { s.line.question() })
	lab.hear(s.line, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 9)
	insists(false)
	if got := progress(s); !slices.Equal(got, []int64{9}) {
		t.Errorf("the client is told %d", got)
	}
}

// TestAnAnswerSaysNothingOfAWatchThatWasMadeAfterTheQuestion: a member of etcd may send it after it has told of the watch, which reads history.
func TestAnAnswerSaysNothingOfAWatchThatWasMadeAfterTheQuestion(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"asked before": false, "asked after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := newWatchLab(t)
			f, s := lab.shared(9, lab.session(), lab.session()), lab.session()
			make := func(r *etcdserverpb.WatchCreateRequest) {
				lab.locked(func() { s.create(r) })
				lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 9)
			}
			make(&etcdserverpb.WatchCreateRequest{Key: []byte("another")})
			if !late {
				lab.locked(s.ask)
			}
			make(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), StartRevision: 3})
			if late {
				lab.locked(s.ask)
			}
			lab.hear(s.line, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 9)
			if shared := len(f.watches) == 3; shared != late {
				t.Errorf("what is before the feed is not told any more: %t, want %t", shared, late)
			}
		})
	}
}

// TestAnAnswerSaysNothingOfAFeedThatWasMadeAfterTheQuestion: its watches go on where they are when it is lost.
func TestAnAnswerSaysNothingOfAFeedThatWasMadeAfterTheQuestion(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	l := lab.shared(5, lab.session(), lab.session()).channel.line
	lab.locked(func() { l.question() })
	sessions := []*session{lab.session(), lab.session()}
	for _, s := range sessions {
		lab.locked(func() { s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("j")}) })
		lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 5)
	}
	lab.hear(l, &etcdserverpb.WatchResponse{Created: true}, 8) // it begins anew, behind 5
	lab.hear(l, &etcdserverpb.WatchResponse{Created: true}, 8)
	lab.hear(l, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 8)
	lab.hear(l, &etcdserverpb.WatchResponse{WatchId: l.last, Canceled: true}, 0)
	for i, s := range sessions {
		lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 8)
		lab.locked(func() {
			if got := s.line.out[len(s.line.out)-1].GetCreateRequest().GetStartRevision(); got != 6 {
				t.Errorf("watch %d goes on at %d, want 6", i, got)
			}
		})
	}
}

// telling is a clock that tells when somebody has looked at it.
type telling struct {
	*clock.Manual
	looked chan struct{}
}

func (c telling) Now() time.Time {
	select {
	case c.looked <- struct{}{}:
	default:
	}
	return c.Manual.Now()
}

// TestALateAnswerIsNotTakenForOneToALaterQuestion: it says nothing of the watch that was made in between, whose events are still to come.
func TestALateAnswerIsNotTakenForOneToALaterQuestion(t *testing.T) {
	t.Parallel()
	mark := func() *etcdserverpb.WatchResponse { return &etcdserverpb.WatchResponse{WatchId: unnumbered} }
	for name, late := range map[string]func(lab *watchLab, now telling, s *session){
		"the member stands still": func(lab *watchLab, now telling, s *session) {
			now.Advance(20 * time.Second)
			lab.hear(s.line, mark(), 9)
		},
		"the client takes nothing": func(lab *watchLab, now telling, s *session) {
			s.queue.push(&etcdserverpb.WatchResponse{Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Value: make([]byte, 2*queueBytesLow)}}}})
			for len(now.looked) > 0 {
				<-now.looked
			}
			heard := make(chan struct{})
			go func() {
				lab.hear(s.line, mark(), 9)
				close(heard)
			}()
			<-now.looked // it waits for the client
			now.Advance(time.Hour)
			for s.queue.pop() != nil {
			}
			<-heard
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := newWatchLab(t)
			now := telling{clock.NewManual(time.Now()), make(chan struct{}, 1)}
			lab.clock = now
			f, s := lab.shared(9, lab.session(), lab.session()), lab.session()
			create := func(r *etcdserverpb.WatchCreateRequest) {
				lab.locked(func() { s.create(r) })
				lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 9)
			}
			create(&etcdserverpb.WatchCreateRequest{Key: []byte("another")})
			lab.locked(s.ask)
			create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), StartRevision: 3})
			lab.locked(s.ask)
			late(lab, now, s)
			if told := progress(s); len(f.watches) != 2 || len(told) > 0 {
				t.Errorf("by the first answer %d watches are shared, and the client is told %d", len(f.watches), told)
			}
			lab.hear(s.line, mark(), 9)
			if len(f.watches) != 3 {
				t.Errorf("by the second answer %d watches are shared", len(f.watches))
			}
		})
	}
}

// asked counts the questions for progress that a line is to send.
func asked(l *line) (n int) {
	for _, r := range l.out {
		if r.GetProgressRequest() != nil {
			n++
		}
	}
	return n
}

// TestQuestionsWithoutAnAnswerAreMadeUpForAtOnce: each stands before a later one that has one.
func TestQuestionsWithoutAnAnswerAreMadeUpForAtOnce(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	now := clock.NewManual(time.Now())
	lab.clock = now
	s := lab.session()
	l := lab.shared(5, s, lab.session()).channel.line
	const skipped = 10
	for range skipped {
		lab.locked(func() { l.question() })
		now.Advance(5 * time.Second)
	}
	lab.locked(s.ask)
	for i := range skipped + 1 {
		if got := progress(s); len(got) > 0 {
			t.Fatalf("after %d answers the client is told %d", i, got)
		}
		if got := asked(l); got != skipped+1+i {
			t.Fatalf("after %d answers %d questions are asked", i, got)
		}
		lab.hear(l, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 9)
	}
	if got := progress(s); !slices.Equal(got, []int64{9}) {
		t.Errorf("the client is told %d", got)
	}
}

// TestTooManyQuestionsWithoutAnAnswerAreFollowedByNone, until they are forgotten.
func TestTooManyQuestionsWithoutAnAnswerAreFollowedByNone(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	now := clock.NewManual(time.Now())
	lab.clock = now
	s := lab.session()
	l := lab.shared(5, s, lab.session()).channel.line
	for range unansweredMax {
		lab.locked(func() { l.question() })
	}
	lab.locked(s.ask)
	lab.locked(func() { l.question() })
	if got := asked(l); got != unansweredMax || !l.insists() {
		t.Fatalf("%d questions are asked, and one will be later: %t", got, l.insists())
	}
	now.Advance(neverAfter + time.Second)
	lab.locked(func() { l.question() })
	lab.hear(l, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 9)
	if got := progress(s); !slices.Equal(got, []int64{9}) {
		t.Errorf("the client is told %d", got)
	}
}

// TestAQuestionDoesNotWaitForALineWithoutWatches: a member answers none there. The client's other watch is shared.
func TestAQuestionDoesNotWaitForALineWithoutWatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(lab *watchLab, s *session) // of the client's second watch
	}{
		{"its last watch is cancelled", func(lab *watchLab, s *session) {
			lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 5)
			lab.locked(func() { s.cancel(7) })
			lab.hear(s.line, &etcdserverpb.WatchResponse{WatchId: s.line.last, Canceled: true}, 5)
		}},
		{"its only watch is refused", func(lab *watchLab, s *session) {
			lab.hear(s.line, &etcdserverpb.WatchResponse{WatchId: unnumbered, Created: true, Canceled: true}, 5)
		}},
	} {
		for when, early := range map[string]bool{", and the client asks then": false, " after the client has asked": true} {
			t.Run(c.name+when, func(t *testing.T) {
				t.Parallel()
				lab := newWatchLab(t)
				s := lab.session()
				shared := lab.shared(5, s, lab.session()).channel.line
				lab.locked(func() { s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("alone"), WatchId: 7}) })
				if early {
					lab.locked(s.ask)
					lab.hear(shared, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 6)
				}
				c.end(lab, s)
				if !early {
					lab.locked(s.ask)
				}
				lab.hear(shared, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 9)
				if got := progress(s); !slices.Equal(got, []int64{9}) {
					t.Errorf("the client is told %d", got)
				}
			})
		}
	}
}

// TestAnAnswerIsNotPassedOnWhileAWatchGoesOn: its events may come after it. The watch has lost its feed, and begins once more at a member that has gone
// further. A member of etcd may answer a question before it tells of a watch that it was asked for first.
func TestAnAnswerIsNotPassedOnWhileAWatchGoesOn(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"the client asks before that": true, "the client asks before upstream has made it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := newWatchLab(t)
			s := lab.session()
			f := lab.shared(5, s, lab.session())
			if early {
				lab.locked(s.ask)
			}
			l := f.channel.line
			lab.locked(func() { l.closed = true })
			l.user.ended(l, errors.New("the member has gone"))
			created, mark := &etcdserverpb.WatchResponse{Created: true}, &etcdserverpb.WatchResponse{WatchId: unnumbered}
			knowsNothing := func(when string) {
				t.Helper()
				if got := progress(s); len(got) > 0 {
					t.Errorf("%s it is told %d and knows nothing behind 5", when, got)
				}
			}
			if !early {
				lab.locked(s.ask)
				lab.hear(s.line, mark, 9)
				knowsNothing("before the watch is made")
			}
			lab.hear(s.line, created, 9)
			lab.hear(s.line, mark, 9)
			knowsNothing("before the watch is made once more")
			lab.locked(func() {
				var from []int64
				for _, r := range s.line.out {
					if c := r.GetCreateRequest(); c != nil {
						from = append(from, c.GetStartRevision())
					}
				}
				if want := []int64{0, 6}; !slices.Equal(from, want) {
					t.Errorf("the watch begins at %d, want %d", from, want)
				}
			})
			lab.hear(s.line, created, 9)
			lab.hear(s.line, mark, 9)
			if got := progress(s); !slices.Equal(got, []int64{9}) {
				t.Errorf("once the watch has gone on the client is told %d", got)
			}
		})
	}
}
