package cluster

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// These tests show that the checks find what they are for.

// did is an operation of a client on group 0 from begin to end, which are milliseconds.
func did(begin, end int, r request, a answer) operation {
	return operation{request: r, answer: a, begin: time.Duration(begin) * time.Millisecond, end: time.Duration(end) * time.Millisecond}
}

// puts puts a value into the first key.
func puts(begin, end int, value string, revision int64, before register) operation {
	return did(begin, end, request{kind: put, value: value}, answer{revision: revision, keys: [groupKeys]register{before}})
}

// gets reads the first key.
func gets(begin, end int, revision int64, found register) operation {
	return did(begin, end, request{kind: get}, answer{revision: revision, keys: [groupKeys]register{found}})
}

// lost is a put that nobody answered.
func lost(begin int, value string) operation {
	return did(begin, begin+1, request{kind: put, value: value}, answer{unknown: true})
}

func TestOrdersThatCannotBeAreFound(t *testing.T) {
	t.Parallel()
	a, b := register{"a", 1, 5}, register{"b", 2, 6}
	swaps := func(begin, end int, value string, revision int64, operand register) operation {
		return did(begin, end, request{kind: swap, value: value, compare: byMod, operand: operand},
			answer{revision: revision, done: true, keys: [groupKeys]register{operand}})
	}
	both := func(begin, end int, revision int64, one, two register) operation {
		return did(begin, end, request{kind: get, key: groupKeys}, answer{revision: revision, keys: [groupKeys]register{one, two}})
	}
	deletes := func(begin, end int, revision int64, before register) operation {
		return did(begin, end, request{kind: remove}, answer{revision: revision, done: before.version > 0, keys: [groupKeys]register{before}})
	}
	wide := did(1, 2, request{kind: put, key: groupKeys, value: "a"}, answer{revision: 5})
	cases := map[string]struct {
		ops []operation
		ok  bool
	}{
		"one after the other":                     {[]operation{puts(1, 2, "a", 5, register{}), gets(3, 4, 5, a), puts(5, 6, "b", 6, a), gets(7, 8, 6, b)}, true},
		"a read of what was overwritten":          {[]operation{puts(1, 2, "a", 5, register{}), puts(5, 6, "b", 6, a), gets(7, 8, 6, a)}, false},
		"a read of it while it was overwritten":   {[]operation{puts(1, 2, "a", 5, register{}), puts(5, 9, "b", 6, a), gets(7, 8, 5, a)}, true},
		"an acknowledged put is lost":             {[]operation{puts(1, 2, "a", 5, register{}), gets(3, 4, 5, register{})}, false},
		"a value of nobody":                       {[]operation{gets(3, 4, 5, a)}, false},
		"a put without an answer happens late":    {[]operation{lost(1, "a"), gets(3, 4, 4, register{}), gets(5, 6, 5, a)}, true},
		"a put without an answer never happens":   {[]operation{lost(1, "a"), gets(3, 4, 4, register{})}, true},
		"a put without an answer is undone":       {[]operation{lost(1, "a"), gets(3, 4, 5, a), gets(5, 6, 5, register{})}, false},
		"a put without an answer happens twice":   {[]operation{lost(1, "a"), gets(3, 4, 5, a), puts(5, 6, "b", 6, a), gets(7, 8, 7, register{"a", 3, 7})}, false},
		"two swaps of the same revision":          {[]operation{puts(1, 2, "a", 5, register{}), swaps(3, 9, "b", 6, a), swaps(3, 9, "c", 7, a)}, false},
		"a transaction is seen whole":             {[]operation{wide, both(3, 4, 5, a, a)}, true},
		"a transaction is seen in part":           {[]operation{wide, both(1, 4, 5, a, register{})}, false},
		"a version is left out":                   {[]operation{puts(1, 2, "a", 5, register{}), gets(3, 4, 5, register{"a", 2, 5})}, false},
		"a revision goes back":                    {[]operation{puts(1, 2, "a", 5, register{}), gets(3, 4, 4, a)}, false},
		"two writes share a revision":             {[]operation{puts(1, 2, "a", 5, register{}), puts(3, 4, "b", 5, a)}, false},
		"a deletion finds what is there":          {[]operation{puts(1, 2, "a", 5, register{}), deletes(3, 4, 6, a), gets(5, 6, 6, register{})}, true},
		"a deletion that found nothing of a key":  {[]operation{puts(1, 2, "a", 5, register{}), deletes(3, 4, 5, register{})}, false},
		"a deleted key comes back with a version": {[]operation{puts(1, 2, "a", 5, register{}), deletes(3, 4, 6, a), puts(5, 6, "c", 7, register{}), gets(7, 8, 7, register{"c", 2, 7})}, false},
	}
	for name, x := range cases {
		h := &history{ops: x.ops}
		wrong, undecided := checkLinearizable(h.groups(map[string]bool{"a": true}), searchTime)
		if len(wrong) == 0 != x.ok || len(undecided) > 0 {
			t.Errorf("%s: %v is wrong, %v undecided, want that it can be: %v", name, wrong, undecided, x.ok)
		}
	}
}

func TestAWriteThatNeverWasIsLeftOut(t *testing.T) {
	t.Parallel()
	h := &history{ops: []operation{lost(1, "a"), lost(2, "b"), {request: request{kind: get}, answer: answer{unknown: true}}}}
	var found []porcupine.Operation
	for _, ops := range h.groups(map[string]bool{"b": true}) {
		found = append(found, ops...)
	}
	if len(found) != 1 || found[0].Input.(request).value != "b" || found[0].Return != never {
		t.Errorf("left are %+v", found)
	}
}

func TestRevisionsThatGoBackAreFound(t *testing.T) {
	t.Parallel()
	first := puts(1, 2, "a", 5, register{})
	for name, x := range map[string]struct {
		second operation
		ok     bool
	}{
		"a read at the same revision": {gets(3, 4, 5, register{}), true},
		"a read before it":            {gets(3, 4, 4, register{}), false},
		"a write at the same":         {puts(3, 4, "b", 5, register{}), false},
		"a write at the same time":    {puts(2, 4, "b", 4, register{}), true},
	} {
		x.second.request.group = 7
		h := &history{ops: []operation{first, x.second}}
		if wrong := h.checkRevisions(); len(wrong) == 0 != x.ok {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}

// kv is a key's state; change is what a watch tells about one.
func kv(value string, create, mod, version int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte("k"), Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version}
}

func change(now, before *mvccpb.KeyValue) *clientv3.Event {
	kind := mvccpb.PUT
	if now.Version == 0 {
		kind = mvccpb.DELETE
	}
	return &clientv3.Event{Type: kind, Kv: now, PrevKv: before}
}

func TestEventsThatCannotBeAreFound(t *testing.T) {
	t.Parallel()
	first := change(kv("a", 5, 5, 1), nil)
	for name, x := range map[string]struct {
		second *clientv3.Event
		ok     bool
	}{
		"the next version":             {change(kv("b", 5, 6, 2), first.Kv), true},
		"a deletion":                   {change(kv("", 0, 6, 0), first.Kv), true},
		"the same again":               {first, false},
		"an earlier one":               {change(kv("b", 4, 4, 1), nil), false},
		"a version left out":           {change(kv("b", 5, 7, 3), first.Kv), false},
		"nothing before it":            {change(kv("b", 5, 6, 2), nil), false},
		"another value before it":      {change(kv("b", 5, 6, 2), kv("x", 5, 5, 1)), false},
		"another creation":             {change(kv("b", 6, 6, 2), first.Kv), false},
		"another revision before it":   {change(kv("b", 5, 6, 2), kv("a", 5, 4, 1)), false},
		"new although it was there":    {change(kv("b", 6, 6, 1), nil), false},
		"a deletion without its value": {change(kv("", 0, 6, 0), nil), false},
	} {
		line := newTimeline()
		if err := line.add(first); err != nil {
			t.Fatal(err)
		}
		if err := line.add(x.second); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// complaints collects errors instead of failing a test.
type complaints struct {
	testing.TB
	said []string
}

// Errorf implements testing.TB.
func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func TestBrokenPromisesOfAWatchAreFound(t *testing.T) {
	t.Parallel()
	events := func(header int64, revisions ...int64) *etcdserverpb.WatchResponse {
		r := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: header}}
		for i, rev := range revisions {
			x := kv("v", rev, rev, 1)
			x.Key = fmt.Appendf(nil, "%d/%d", rev, i)
			r.Events = append(r.Events, (*mvccpb.Event)(change(x, nil)))
		}
		return r
	}
	for name, x := range map[string]struct {
		told []*etcdserverpb.WatchResponse
		says string
	}{
		"all in order":                   {[]*etcdserverpb.WatchResponse{events(5, 5, 5), events(6), events(8, 7, 8)}, ""},
		"a revision in two parts":        {[]*etcdserverpb.WatchResponse{events(5, 5), events(5, 5)}, "after everything below 6"},
		"an event below the bookmark":    {[]*etcdserverpb.WatchResponse{events(7), events(8, 6)}, "after everything below 8"},
		"an event from the future":       {[]*etcdserverpb.WatchResponse{events(4, 5)}, "in an answer of 4"},
		"events out of order in answers": {[]*etcdserverpb.WatchResponse{events(6, 6, 5)}, "came after"},
	} {
		tb := &complaints{}
		w := &watcher{workload: &workload{pulse: &pulse{tb: tb}, history: &history{}, leases: newTenancies(), past: newPast()}, timeline: newTimeline(), next: 1}
		for _, r := range x.told {
			w.take(r)
		}
		if said := strings.Join(tb.said, "\n"); (said == "") != (x.says == "") || !strings.Contains(said, x.says) {
			t.Errorf("%s: it says %q", name, said)
		}
	}
}

// What is no reason to end the stream of all of a client's watches is told although the watcher would go on elsewhere.
func TestTheEndOfAWatchesStreamHasAReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		ours bool // the client ended it
		ok   bool
	}{
		"a connection that broke":                  {err: status.Error(codes.Unavailable, "EOF"), ok: true},
		"a member that ends":                       {err: rpctypes.ErrGRPCStopped, ok: true},
		"a member without a leader":                {err: rpctypes.ErrGRPCNoLeader, ok: true},
		"history that is compacted":                {err: rpctypes.ErrGRPCCompacted},
		"a fault":                                  {err: status.Error(codes.Unknown, "reading history")},
		"no reason":                                {err: io.EOF},
		"whatever comes once the client has ended": {err: status.Error(codes.Canceled, "canceled"), ours: true, ok: true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.ours {
			cancel()
		}
		tb := &complaints{}
		w := &watcher{workload: &workload{pulse: &pulse{tb: tb}}}
		w.broke(ctx, c.err)
		w.broke(ctx, c.err) // it has gone on, and the same came
		cancel()
		want := 1
		if c.ok {
			want = 0
		}
		if len(tb.said) != want {
			t.Errorf("%s: it says %q", name, tb.said)
		}
	}
}

// A member that falls behind may end a watch that it has told of something before.
func TestAWatcherThatIsCompactedAwayKnowsEachChangeOnce(t *testing.T) {
	t.Parallel()
	tb := &complaints{}
	load := &workload{pulse: &pulse{tb: tb}, history: &history{}, leases: newTenancies(), past: newPast()}
	tell := func(to int64) *watcher {
		w := &watcher{workload: load, timeline: newTimeline(), next: 1}
		for rev := int64(1); rev <= to; rev++ {
			x := kv("v", rev, rev, 1)
			x.Key = fmt.Append(nil, rev)
			w.take(&etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: rev},
				Events: []*mvccpb.Event{(*mvccpb.Event)(change(x, nil))}})
		}
		load.watchers = append(load.watchers, w)
		return w
	}
	behind, _ := tell(5), tell(10)
	load.past.ask(8)
	behind.skip(8)
	var got []int64
	for _, e := range behind.timeline.events {
		got = append(got, e.revision)
	}
	if want := []int64{1, 2, 3, 4, 5, 6, 7}; !slices.Equal(got, want) || behind.next != 8 || len(tb.said) > 0 {
		t.Errorf("it knows %d and goes on at %d, want %d and 8; it says %q", got, behind.next, want, tb.said)
	}
}

func TestAnswersThatTheFinalHistoryDeniesAreFound(t *testing.T) {
	t.Parallel()
	line := newTimeline()
	for _, x := range []*clientv3.Event{change(kv("a", 5, 5, 1), nil), change(kv("b", 5, 6, 2), kv("a", 5, 5, 1))} {
		if err := line.add(x); err != nil {
			t.Fatal(err)
		}
	}
	named := func(int, int) string { return "k" }
	a := register{"a", 1, 5}
	for name, x := range map[string]struct {
		op operation
		ok bool
	}{
		"a put that is there":             {puts(1, 2, "a", 5, register{}), true},
		"a put that is not":               {puts(1, 2, "c", 7, register{"b", 2, 6}), false},
		"a put at another revision":       {puts(1, 2, "a", 4, register{}), false},
		"a read of then":                  {gets(1, 2, 5, a), true},
		"a read of another time":          {gets(1, 2, 6, a), false},
		"a put that found something else": {puts(1, 2, "b", 6, register{}), false},
	} {
		x.op.request.key = 0
		if wrong := (&history{ops: []operation{x.op}}).checkAgainst(line, named); len(wrong) == 0 != x.ok {
			t.Errorf("%s: %v", name, wrong)
		}
	}
	if wrong := (&history{ops: []operation{puts(1, 2, "a", 5, register{})}}).checkSent(line, ""); len(wrong) != 1 {
		t.Errorf("what nobody wrote: %v", wrong)
	}
	other := newTimeline()
	if line.difference(other) == "" || other.difference(line) == "" || line.difference(line) != "" {
		t.Error("timelines that differ are taken for equal, or the same for different ones")
	}
}

func TestALeaseThatEndsEarlyIsFound(t *testing.T) {
	t.Parallel()
	leases := newTenancies()
	leases.renewed("early", time.Second)
	leases.renewed("in time", time.Second)
	leases.renewed("revoked", time.Second)
	leases.revoked["revoked"] = true
	before, after := (1+leaseTTL)*time.Second-1, (1+leaseTTL)*time.Second
	leases.gone("early", before)
	leases.gone("early", after) // another watcher, later
	leases.gone("in time", after)
	leases.gone("revoked", before)
	if wrong := leases.early(); len(wrong) != 1 || !strings.HasPrefix(wrong[0], "early ") {
		t.Errorf("found are %v", wrong)
	}
	if leases.mayBeGone("early", before) || !leases.mayBeGone("early", after) || !leases.mayBeGone("revoked", 0) {
		t.Error("when a key may be gone is not what it should be")
	}
}

func TestPutsWithoutSpaceAreFound(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		op      operation
		refused bool
		ok      bool
	}{
		"a put meanwhile":             {puts(3, 4, "a", 5, register{}), false, false},
		"a put that began before":     {puts(1, 4, "a", 5, register{}), false, true},
		"a put that ended after":      {puts(4, 7, "a", 5, register{}), false, true},
		"a read meanwhile":            {gets(3, 4, 5, register{}), false, true},
		"a refused put":               {puts(3, 4, "b", 5, register{}), true, true},
		"a refused put that happened": {puts(3, 4, "a", 5, register{}), true, false},
		"a refused read":              {gets(3, 4, 5, register{}), true, false},
	} {
		h := &history{}
		h.tight(2*time.Millisecond, 6*time.Millisecond)
		if x.refused {
			h.refuse(x.op)
		} else {
			h.add(x.op)
		}
		if wrong := h.checkSpace(map[string]bool{"a": true}); len(wrong) == 0 != x.ok {
			t.Errorf("%s: %v", name, wrong)
		}
	}
}
