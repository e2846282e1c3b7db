package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// pathMembers is where a member tells who is in the cluster.
const pathMembers = "/members"

// bodyBytesMax bounds the small requests and answers between members.
const bodyBytesMax = 1 << 20

// Refusal is an answer that is no success: an HTTP status and its text.
type Refusal struct {
	Status int
	Text   string
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

// Answers are what a transport asks of the member it belongs to. All are called from many goroutines. An error that is a
// *Refusal is told as it is, any other one with the status that each says.
type Answers struct {
	// ReceiveSnapshot takes a snapshot of our kind, ReceiveDatabase one of etcd's. They return once the state is safe and
	// raft was given the message.
	ReceiveSnapshot func(m *raftpb.Message, state io.Reader) error
	ReceiveDatabase func(m *raftpb.Message, file io.Reader) error

	// Members returns the membership as applied here; errors are a 503.
	Members func() (*cluster.Membership, error)
	// Versions are those of /version.
	Versions func() Versions
	// Promote makes a voter of a learner and returns all members; other errors are a 500.
	Promote func(ctx context.Context, id uint64) ([]cluster.Member, error)
	// HashKV hashes the keys up to a revision, 0 for the newest; other errors are a 400.
	HashKV func(ctx context.Context, revision int64) (HashKV, error)
	// Chain tells the chained hash after an entry.
	Chain func(index uint64) Chain
	// State opens a view of the state as the stream of package snapshot; errors are a 503.
	State func() (io.ReadCloser, error)
	// RenewLease and TimeToLive are for the leader alone; other errors are a 400.
	RenewLease func(ctx context.Context, id int64) (ttl int64, err error)
	TimeToLive func(ctx context.Context, id int64, keys bool) (LeaseStatus, error)
	// DowngradeEnabled says whether a downgrade is under way; other errors are a 500.
	DowngradeEnabled func(ctx context.Context) (bool, error)
}

// Versions are what /version tells. Cluster is "not_decided" while the cluster has none.
type Versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
	Storage string `json:"storage"`
}

// HashKV is the answer of /members/hashkv. Its JSON is etcd's.
type HashKV struct {
	Header          HashKVHeader `json:"header"`
	Hash            uint32       `json:"hash"`
	CompactRevision int64        `json:"compact_revision"`
	HashRevision    int64        `json:"hash_revision"`
}

// HashKVHeader says at which revision the member is.
type HashKVHeader struct {
	Revision int64 `json:"revision"`
}

// hashKVRequest is the question.
type hashKVRequest struct {
	Revision int64 `json:"revision"`
}

// memberJSON is a member in the answer of /members: the id is decimal, unlike elsewhere.
type memberJSON struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

func encodeMembers(all []cluster.Member) ([]byte, error) {
	out := make([]memberJSON, len(all))
	for i, m := range all {
		out[i] = memberJSON{uint64(m.ID), m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs}
	}
	return json.Marshal(out)
}

func decodeMembers(b []byte) ([]cluster.Member, error) {
	var in []memberJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, err
	}
	out := make([]cluster.Member, len(in))
	for i, m := range in {
		out[i] = cluster.Member{ID: cluster.ID(m.ID), PeerURLs: m.PeerURLs, IsLearner: m.IsLearner, Name: m.Name, ClientURLs: m.ClientURLs}
	}
	return out, nil
}

// api answers the questions of other members that are no raft messages.
type api struct{ t *Transport }

// admit refuses members of other clusters; who does not say its cluster may ask.
func (a *api) admit(w http.ResponseWriter, req *http.Request) bool {
	w.Header().Set(headerCluster, hex(a.t.id.Cluster))
	if id := req.Header.Get(headerCluster); id != "" && id != hex(a.t.id.Cluster) {
		http.Error(w, ErrClusterMismatch.Error(), http.StatusPreconditionFailed)
		return false
	}
	return true
}

// refuse tells an error.
func refuse(w http.ResponseWriter, err error, status int) {
	var r *Refusal
	if errors.As(err, &r) {
		status = r.Status
	}
	http.Error(w, err.Error(), status)
}

func reply(w http.ResponseWriter, kind string, body []byte, err error) {
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(body) // whoever is gone needs no answer
}

func body(w http.ResponseWriter, req *http.Request) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, req.Body, bodyBytesMax))
	if err != nil {
		http.Error(w, "error reading body", http.StatusBadRequest)
		return nil, false
	}
	return b, true
}

func (a *api) members(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodGet) || !a.admit(w, req) {
		return
	}
	ms, err := a.t.answers.Members()
	if err != nil {
		refuse(w, err, http.StatusServiceUnavailable)
		return
	}
	b, err := encodeMembers(ms.Members())
	reply(w, "application/json", append(b, '\n'), err)
}

func (a *api) version(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodGet) {
		return
	}
	b, err := json.Marshal(a.t.answers.Versions())
	reply(w, "application/json", b, err)
}

func (a *api) promote(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodPost) || !a.admit(w, req) {
		return
	}
	text := strings.TrimPrefix(req.URL.Path, "/members/promote/")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		http.Error(w, "member "+text+" not found in cluster", http.StatusNotFound)
		return
	}
	all, err := a.t.answers.Promote(req.Context(), id)
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	b, err := encodeMembers(all)
	reply(w, "application/json", append(b, '\n'), err)
}

func (a *api) hashKV(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodGet) || !a.admit(w, req) {
		return
	}
	b, ok := body(w, req)
	if !ok {
		return
	}
	var in hashKVRequest
	if err := json.Unmarshal(b, &in); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	out, err := a.t.answers.HashKV(req.Context(), in.Revision)
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	b, err = json.Marshal(out)
	reply(w, "application/json", b, err)
}

func (a *api) downgrade(w http.ResponseWriter, req *http.Request) {
	if !allow(w, req, http.MethodGet) || !a.admit(w, req) {
		return
	}
	on, err := a.t.answers.DowngradeEnabled(req.Context())
	reply(w, "text/plain", strconv.AppendBool(nil, on), err)
}
