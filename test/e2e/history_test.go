package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// history is the obvious store: every version of every key, found by looking at all of them.
type history struct {
	versions map[string][]version // in revision order
}

// version is a key's state from a revision on.
type version struct {
	revision int64
	kv       *mvccpb.KeyValue // nil: deleted
}

func newHistory() *history {
	return &history{versions: make(map[string][]version)}
}

// record appends a version as it is.
func (h *history) record(revision int64, c change) {
	v := version{revision: revision, kv: c.kv}
	if c.deleted {
		v.kv = nil
	}
	key := string(c.kv.Key)
	h.versions[key] = append(h.versions[key], v)
}

// put appends what a put must lead to: the key's version and create revision follow from what is there.
func (h *history) put(revision int64, key, value []byte) {
	kv := &mvccpb.KeyValue{Key: key, Value: value, CreateRevision: revision, ModRevision: revision, Version: 1}
	if before := h.newest(string(key)); before != nil {
		kv.CreateRevision, kv.Version = before.CreateRevision, before.Version+1
	}
	h.record(revision, change{kv: kv})
}

// newest is the key's state after everything recorded, or nil.
func (h *history) newest(key string) *mvccpb.KeyValue {
	if versions := h.versions[key]; len(versions) > 0 {
		return versions[len(versions)-1].kv
	}
	return nil
}

// at returns the keys that were live at a revision, in key order.
func (h *history) at(revision int64) []*mvccpb.KeyValue {
	var live []*mvccpb.KeyValue
	for _, versions := range h.versions {
		i := sort.Search(len(versions), func(i int) bool { return versions[i].revision > revision })
		if i > 0 && versions[i-1].kv != nil {
			live = append(live, versions[i-1].kv)
		}
	}
	slices.SortFunc(live, func(a, b *mvccpb.KeyValue) int { return slices.Compare(a.Key, b.Key) })
	return live
}

// digest is the hash by which the recordings describe a list of keys.
func digest(kvs []*mvccpb.KeyValue) string {
	h := sha256.New()
	text := base64.StdEncoding.EncodeToString
	for _, kv := range kvs {
		fmt.Fprintf(h, "%s %d %d %d %d %s\n", text(kv.Key), kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease, text(kv.Value))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// difference describes the first place where two lists of keys differ, or is empty.
func difference(got, want []*mvccpb.KeyValue) string {
	for i := range min(len(got), len(want)) {
		if !proto.Equal(got[i], want[i]) {
			return fmt.Sprintf("position %d: got %s, want %s", i, brief(got[i]), brief(want[i]))
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("got %d keys, want %d", len(got), len(want))
	}
	return ""
}

// brief prints a key-value with its value cut short.
func brief(kv *mvccpb.KeyValue) string {
	return fmt.Sprintf("{%q = %.40q (%d bytes), created %d, modified %d, version %d, lease %d}",
		kv.Key, kv.Value, len(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}
