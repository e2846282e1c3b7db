package member

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// says is what a member answers.
func says(id cluster.ID, hash uint32, compact, revision int64) peerHash {
	return peerHash{id: id, hash: peer.HashKV{Header: peer.HashKVHeader{Revision: revision}, Hash: hash, CompactRevision: compact}}
}

func silent(id cluster.ID) peerHash { return peerHash{id: id, err: errors.New("no answer")} }

func TestThePeriodicCheckAccusesWhomEtcdAccuses(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	now := mvcc.Hash{Hash: 7, Compact: 3, Revision: 20}
	cases := map[string]struct {
		first, second mvcc.Hash
		peers         []peerHash
		want          cluster.ID // 99 is nobody
	}{
		"all alike":                             {now, now, []peerHash{says(1, 7, 3, 20), says(2, 7, 3, 20)}, 99},
		"another hash":                          {now, now, []peerHash{says(1, 7, 3, 20), says(2, 8, 3, 20)}, 2},
		"two others: the first one found":       {now, now, []peerHash{says(1, 9, 3, 20), says(2, 8, 3, 20)}, 1},
		"another hash of another compaction":    {now, now, []peerHash{says(1, 9, 2, 20)}, 99},
		"nobody answers":                        {now, now, []peerHash{silent(1), silent(2)}, 99},
		"a follower ahead":                      {now, now, []peerHash{says(1, 7, 3, 21)}, 1},
		"a follower with a later compaction":    {now, now, []peerHash{says(1, 9, 4, 20)}, 1},
		"a leader that has gone on meanwhile":   {now, mvcc.Hash{Hash: 9, Compact: 5, Revision: 30}, []peerHash{says(1, 7, 3, 25), says(2, 6, 5, 30)}, 99},
		"a leader that disagrees with itself":   {now, mvcc.Hash{Hash: 9, Compact: 3, Revision: 20}, []peerHash{says(1, 8, 3, 20)}, m.self()},
		"a leader that was compacted meanwhile": {now, mvcc.Hash{Hash: 9, Compact: 4, Revision: 20}, []peerHash{says(1, 7, 3, 20)}, 99},
	}
	for name, c := range cases {
		id, found := m.corruption.suspect(c.first, c.second, c.peers)
		if found != (c.want != 99) || found && id != c.want {
			t.Errorf("%s: %s, %v; want %s", name, id, found, c.want)
		}
	}
}

func TestTheCheckOfCompactionsAccusesWhomEtcdAccuses(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	self := m.self()
	h := mvcc.Hash{Hash: 7, Compact: 3, Revision: 20}
	cases := map[string]struct {
		peers   []peerHash
		want    []cluster.ID
		done    bool
		checked int64
	}{
		"all alike":                       {[]peerHash{says(1, 7, 3, 20), says(2, 7, 3, 20)}, nil, true, 20},
		"one is silent":                   {[]peerHash{says(1, 7, 3, 20), silent(2)}, nil, false, 0},
		"one has another compaction":      {[]peerHash{says(1, 7, 3, 20), says(2, 8, 4, 20)}, nil, false, 0},
		"one differs":                     {[]peerHash{says(1, 7, 3, 20), says(2, 8, 3, 20)}, []cluster.ID{2}, true, 0},
		"the leader differs":              {[]peerHash{says(1, 8, 3, 20), says(2, 8, 3, 20)}, []cluster.ID{self}, true, 0},
		"all differ":                      {[]peerHash{says(1, 8, 3, 20), says(2, 9, 3, 20)}, []cluster.ID{0}, true, 0},
		"one differs and one is silent":   {[]peerHash{says(1, 8, 3, 20), silent(2)}, []cluster.ID{0}, true, 0},
		"two members":                     {[]peerHash{says(1, 8, 3, 20)}, []cluster.ID{0}, true, 0},
		"two of five differ in two ways":  {[]peerHash{says(1, 8, 3, 20), says(2, 9, 3, 20), says(3, 7, 3, 20), says(4, 7, 3, 20)}, []cluster.ID{1, 2}, true, 0},
		"two of five differ in one way":   {[]peerHash{says(1, 8, 3, 20), says(2, 8, 3, 20), says(3, 7, 3, 20), says(4, 7, 3, 20)}, []cluster.ID{1, 2}, true, 0},
		"two pairs and one that is alone": {[]peerHash{says(1, 8, 3, 20), says(2, 8, 3, 20), says(3, 7, 3, 20), says(4, 9, 3, 20)}, []cluster.ID{0}, true, 0},
	}
	for name, c := range cases {
		x := corruption{m: m}
		got, done := x.compare(h, c.peers)
		if !slices.Equal(got, c.want) || done != c.done || x.checked != c.checked {
			t.Errorf("%s: %v, done %v, checked %d; want %v, %v, %d", name, got, done, x.checked, c.want, c.done, c.checked)
		}
	}
}

// hashes answers questions for hashes, and no others: the member asks for versions, too, whenever it likes.
type hashes struct {
	status int
	text   string
}

func (h *hashes) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/members/hashkv" { // first: the fields belong to the test
		return nil, errors.New("connection refused")
	}
	if h.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: h.status, Body: io.NopCloser(strings.NewReader(h.text)), Header: http.Header{}, Request: r}, nil
}

func TestTheInitialCheckEndsTheStartOnlyForAnotherHash(t *testing.T) {
	t.Parallel()
	answers := &hashes{}
	m := growing(t, vfs.NewCrashableMem(), func(c *Config) { c.HTTP = answers })
	defer stop(t, m)
	mustAdd(t, m, true, "http://127.0.0.1:11")
	cases := map[string]struct {
		status int
		text   string
		fails  bool
	}{
		"another hash":                  {http.StatusOK, `{"header":{"revision":1},"hash":1,"compact_revision":-1,"hash_revision":1}`, true},
		"another compaction":            {http.StatusOK, `{"header":{"revision":1},"hash":1,"compact_revision":1,"hash_revision":1}`, false},
		"a member behind":               {http.StatusBadRequest, mvcc.ErrFutureRevision.Error(), false},
		"a member that is ahead":        {http.StatusBadRequest, mvcc.ErrCompacted.Error(), false},
		"another cluster":               {http.StatusPreconditionFailed, peer.ErrClusterMismatch.Error(), false},
		"nobody there":                  {0, "connection refused", false},
		"an answer that cannot be read": {http.StatusOK, "no", false},
	}
	for name, c := range cases {
		answers.status, answers.text = c.status, c.text
		err := m.InitialCheck(t.Context())
		if c.fails != errors.Is(err, ErrInconsistent) || !c.fails && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.fails && !strings.HasPrefix(err.Error(), m.self().String()+" found data inconsistency with peers") {
			t.Errorf("%s: the text %q is not etcd's", name, err)
		}
	}
}

// TestAMemberThatIsKnownToBeWrongAccusesNobody has a leader that differs from another member, which is right.
func TestAMemberThatIsKnownToBeWrongAccusesNobody(t *testing.T) {
	t.Parallel()
	for _, wrong := range []bool{true, false} {
		answers := &hashes{status: http.StatusOK, text: `{"header":{"revision":1},"hash":1,"compact_revision":-1,"hash_revision":1}`}
		m := growing(t, vfs.NewCrashableMem(), func(c *Config) { c.HTTP = answers })
		other := mustAdd(t, m, true, "http://127.0.0.1:11")
		if wrong {
			m.rebuild.distrust()
		}
		if err := m.corruption.periodic(t.Context()); err != nil {
			t.Error(err)
		}
		m.maintenance.work.Wait() // for an alarm on its way
		if m.Alarms().Has(cluster.Alarm{Member: other, Type: cluster.AlarmCorrupt}) == wrong {
			t.Errorf("it is known to be wrong: %v; the alarms are %v", wrong, m.Alarms().List())
		}
		stop(t, m)
	}
}
