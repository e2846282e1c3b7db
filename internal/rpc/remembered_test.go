package rpc

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestAKeyReadAgainIsAnsweredTheSame asks for one key again and again, until it is answered from memory: every answer is the first one.
func TestAKeyReadAgainIsAnsweredTheSame(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{}))
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	key := []byte("k")
	for name, r := range map[string]*etcdserverpb.RangeRequest{
		"plain":          {Key: key},
		"serializable":   {Key: key, Serializable: true},
		"keys only":      {Key: key, KeysOnly: true},
		"count only":     {Key: key, CountOnly: true},
		"a limit":        {Key: key, Limit: 1},
		"sorted":         {Key: key, SortOrder: etcdserverpb.RangeRequest_DESCEND, SortTarget: etcdserverpb.RangeRequest_VALUE, KeysOnly: true},
		"a filter":       {Key: key, MinModRevision: 99},
		"another filter": {Key: key, MaxCreateRevision: 2},
		"a missing key":  {Key: []byte("none")},
	} {
		first, err := kv.Range(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for range 5 {
			again, err := kv.Range(t.Context(), r)
			if err != nil || !proto.Equal(first, again) {
				t.Errorf("%s: got %v (%v), first %v", name, again, err, first)
			}
		}
	}
	put(t, s, "k", "3")
	for range 3 {
		got, err := kv.Range(t.Context(), &etcdserverpb.RangeRequest{Key: key})
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "3" {
			t.Errorf("after another put: got %v, %v", got, err)
		}
	}
}
