package member

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

const (
	ofThree = alone + ",b=http://b:2380,c=http://c:2380"
	// newestOfThree is the last entry that a member of three has when nobody has told it anything.
	newestOfThree = 3
)

// voters answer, by their names, what a member asks the other two of ofThree; those that are not there are down.
type voters map[string]func(r *http.Request) (status int, body io.Reader)

// RoundTrip implements http.RoundTripper.
func (v voters) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := v[r.URL.Hostname()]
	if answer == nil {
		return nil, errors.New("connection refused")
	}
	status, body := answer(r)
	return &http.Response{StatusCode: status, Body: io.NopCloser(body), Header: http.Header{}, Request: r}, nil
}

// member opens the first of ofThree, which is not started, and returns the ids of the others.
func (v voters) member(t *testing.T, disk storage.FS) (m *Member, b, c cluster.ID) {
	t.Helper()
	cfg := configOf(t, disk, ofThree)
	cfg.HTTP = v
	m = open(t, cfg)
	t.Cleanup(func() { stop(t, m) })
	step(m)
	if at := m.Chain().Newest().Index; at != newestOfThree {
		t.Fatalf("the member is at entry %d", at)
	}
	for _, x := range m.Members().Members() {
		switch {
		case slices.Contains(x.PeerURLs, "http://b:2380"):
			b = x.ID
		case slices.Contains(x.PeerURLs, "http://c:2380"):
			c = x.ID
		}
	}
	return m, b, c
}

// chainOf answers a question for a point as a voter does that is at an entry: with those of a member, changed.
func chainOf(m *Member, at uint64, change func(asked uint64, c *peer.Chain)) func(*http.Request) (int, io.Reader) {
	return func(r *http.Request) (int, io.Reader) {
		index, err := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
		if err != nil {
			return http.StatusBadRequest, strings.NewReader(err.Error())
		}
		p, _ := m.Chain().At(min(index, at))
		answer := peer.Chain{Version: apply.ChainVersion, Point: (*peer.Point)(&p)}
		if change != nil {
			change(index, &answer)
		}
		b, err := json.Marshal(answer)
		if err != nil {
			return http.StatusInternalServerError, strings.NewReader(err.Error())
		}
		return http.StatusOK, strings.NewReader(string(b))
	}
}

// anotherHash, anotherBase and anotherVersion change what a voter answers.
func anotherHash(_ uint64, c *peer.Chain)    { c.Point.Hash++ }
func anotherBase(_ uint64, c *peer.Chain)    { c.Point.Base++ }
func anotherVersion(_ uint64, c *peer.Chain) { c.Version++ }

func ofEtcd(*http.Request) (int, io.Reader) {
	return http.StatusNotFound, strings.NewReader("404 page not found")
}

// TestAMemberIsTrustedAgainOnceAMajorityHasItsHash: one that was rebuilt compares, and so does one of which nobody says that it is wrong.
func TestAMemberIsTrustedAgainOnceAMajorityHasItsHash(t *testing.T) {
	t.Parallel()
	type answer struct {
		at     uint64
		change func(asked uint64, c *peer.Chain)
	}
	same, behind := &answer{newestOfThree, nil}, &answer{newestOfThree - 1, nil}
	other, elsewhere := &answer{newestOfThree, anotherHash}, &answer{newestOfThree, anotherBase}
	newer := &answer{newestOfThree, anotherVersion}
	// It is behind, and what it answers when it is asked for its newest entry once more differs.
	turns := &answer{newestOfThree - 1, func(asked uint64, c *peer.Chain) {
		if asked < newestOfThree {
			c.Point.Hash++
		}
	}}
	for name, x := range map[string]struct {
		b, c    *answer // nil for one that is down
		trusted bool    // once it was compared, if it was not before
		wrong   bool    // it is not any more, if it was before
	}{
		"all have it":                          {b: same, c: same, trusted: true},
		"one has it, the other one is down":    {b: same, trusted: true},
		"one has it, the other one has not":    {b: other, c: same},
		"one is behind":                        {b: behind, c: same, trusted: true},
		"one is behind, the other one is down": {b: behind, trusted: true},
		"both are behind":                      {b: behind, c: behind, trusted: true},
		"both are down":                        {},
		"both are of another epoch":            {b: elsewhere, c: elsewhere},
		"both are of another version":          {b: newer, c: newer},
		"one is behind and has another hash":   {b: turns},
		"both have another hash":               {b: other, c: other, wrong: true},
		"one has another hash":                 {b: other},
	} {
		for when, marked := range map[string]bool{", and it was wrong": true, ", and it was not wrong": false} {
			t.Run(name+when, func(t *testing.T) {
				t.Parallel()
				answers := voters{}
				m, _, _ := answers.member(t, vfs.NewCrashableMem())
				for host, a := range map[string]*answer{"b": x.b, "c": x.c} {
					if a != nil {
						answers[host] = chainOf(m, a.at, a.change)
					}
				}
				want := !x.wrong
				if marked {
					m.rebuild.begin(1)
					want = x.trusted
				}
				m.comparison.step(t.Context())
				if trusted := m.Trusted() == nil; trusted != want || m.rebuild.marked() == want {
					t.Errorf("it is trusted: %t, want %t; it has a mark: %t", trusted, want, m.rebuild.marked())
				}
			})
		}
	}
}

// TestAMemberIsTrustedAgainOnceItsMarkIsGone: if the disk does not let go of that, it is compared until it does, although nothing is applied meanwhile.
func TestAMemberIsTrustedAgainOnceItsMarkIsGone(t *testing.T) {
	t.Parallel()
	answers := voters{}
	broken := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemove && path.Base(op.Path) == rebuildMark {
			return syscall.EIO
		}
		return nil
	})
	disk := &errorfs.Toggle{Injector: broken}
	m, _, _ := answers.member(t, errorfs.Wrap(vfs.NewCrashableMem(), disk))
	answers["b"], answers["c"] = chainOf(m, newestOfThree, nil), chainOf(m, newestOfThree, nil)
	m.rebuild.begin(1)
	disk.On()
	if m.comparison.step(t.Context()); m.Trusted() == nil {
		t.Error("it is trusted, and would not be after another start")
	}
	disk.Off()
	if m.comparison.step(t.Context()); m.Trusted() != nil || m.rebuild.marked() {
		t.Errorf("it is not trusted: %v", m.Trusted())
	}
}

// TestAStateThatWasReplacedMeanwhileIsNotTrustedForWhatTheOneBeforeHas: a snapshot may come while others are asked.
func TestAStateThatWasReplacedMeanwhileIsNotTrustedForWhatTheOneBeforeHas(t *testing.T) {
	t.Parallel()
	answers := voters{}
	m, b, _ := answers.member(t, vfs.NewCrashableMem())
	answers["b"] = chainOf(m, newestOfThree, nil)
	newest := m.Chain().Newest()
	m.rebuild.begin(1)
	before, err := apply.LoadChain(m.gen.Load().db, newest.Index)
	if err != nil {
		t.Fatal(err)
	}
	all := []heard{tells(b, peer.Point(newest))}
	if m.comparison.settle(t.Context(), before, all, newest); m.Trusted() == nil {
		t.Error("it is trusted")
	}
	if m.comparison.settle(t.Context(), m.Chain(), all, newest); m.Trusted() != nil {
		t.Errorf("that has been compared: %v", m.Trusted())
	}
}

// TestADifferenceIsOpenAsLongAsAVoterMayDecideIt: one that is down may come back, one that knows no such hash will not.
func TestADifferenceIsOpenAsLongAsAVoterMayDecideIt(t *testing.T) {
	t.Parallel()
	answers := voters{}
	m, _, _ := answers.member(t, vfs.NewCrashableMem())
	answers["b"] = chainOf(m, newestOfThree, anotherHash)
	behind := chainOf(m, newestOfThree-1, nil)
	for name, x := range map[string]struct {
		c    func(*http.Request) (int, io.Reader)
		open bool
	}{
		"the third one is down":               {nil, true},
		"the third one is behind":             {behind, true},
		"the third one has forgotten it":      {chainOf(m, newestOfThree, func(_ uint64, c *peer.Chain) { c.Point = nil }), true},
		"the third one is of another version": {chainOf(m, newestOfThree, anotherVersion), false},
		"the third one is of etcd":            {ofEtcd, false},
	} {
		answers["c"] = x.c
		own := m.Chain().Newest()
		if v := m.comparison.vote(own, m.comparison.ask(t.Context(), own.Index)); !v.differ || v.right || v.wrong || v.open != x.open {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestAStateIsHadFromOneOfAMajority of voters that have one hash, the leader if it is one of them. What the asking member has says nothing: it is wrong.
func TestAStateIsHadFromOneOfAMajority(t *testing.T) {
	t.Parallel()
	answers := voters{}
	m, b, c := answers.member(t, vfs.NewCrashableMem())
	same, behind := chainOf(m, newestOfThree, nil), chainOf(m, newestOfThree-1, nil)
	other, elsewhere := chainOf(m, newestOfThree, anotherHash), chainOf(m, newestOfThree, anotherBase)
	newer, forgot := chainOf(m, newestOfThree, anotherVersion), chainOf(m, newestOfThree, func(_ uint64, c *peer.Chain) { c.Point = nil })
	for i, leader := range []cluster.ID{b, c} {
		m.node.Step(&raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(uint64(leader)), To: proto.Uint64(m.ID()), Term: proto.Uint64(uint64(100 + i)),
		})
		step(m)
		for name, x := range map[string]struct {
			b, c   func(*http.Request) (int, io.Reader)
			nobody bool
		}{
			"both have one hash":        {b: same, c: same},
			"both have another one":     {b: other, c: other},
			"one is behind":             {b: behind, c: same},
			"they have two hashes":      {b: other, c: same, nobody: true},
			"they are of two epochs":    {b: elsewhere, c: same, nobody: true},
			"one is down":               {c: same, nobody: true},
			"both are down":             {nobody: true},
			"one is of etcd":            {b: ofEtcd, c: same, nobody: true},
			"both are of a new version": {b: newer, c: newer, nobody: true},
			"one has forgotten it":      {b: forgot, c: same, nobody: true},
		} {
			answers["b"], answers["c"] = x.b, x.c
			from, err := m.comparison.source(t.Context())
			if x.nobody != errors.Is(err, errNoMajority) || !x.nobody && (err != nil || from.id != leader || len(from.urls) != 1) {
				t.Errorf("%s: the state is had from %v, %v; member %v leads", name, from.id, err, leader)
			}
		}
	}
}
