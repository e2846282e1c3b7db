package mvcc

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

func TestKeyValueIsEncodedAsProtobufDoes(t *testing.T) {
	t.Parallel()
	cases := map[string]*mvccpb.KeyValue{
		"nothing set":             {},
		"a tombstone has the key": {Key: []byte("a")},
		"all fields set":          {Key: []byte("k"), CreateRevision: 3, ModRevision: 300, Version: 2, Value: []byte("v"), Lease: 77},
		"an empty value":          {Key: []byte("k"), CreateRevision: 1, ModRevision: 1, Version: 1},
		"a negative lease":        {Key: []byte("k"), CreateRevision: 1, ModRevision: 1, Version: 1, Lease: -1},
		"the largest numbers":     {Key: make([]byte, 200), CreateRevision: math.MaxInt64, ModRevision: math.MaxInt64, Version: math.MaxInt64, Value: make([]byte, 70000), Lease: math.MinInt64},
	}
	for name, m := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			f := fields{key: m.Key, value: m.Value, create: m.CreateRevision, mod: m.ModRevision, version: m.Version, lease: m.Lease}
			got := f.append(nil)
			if !bytes.Equal(got, want) || f.size() != len(got) {
				t.Fatalf("encoded %x (size says %d), want %x", got, f.size(), want)
			}
			if joined := f.encodeLarge(); len(f.value) > 0 && (!bytes.Equal(joined, want) || cap(joined) != len(want)) {
				t.Fatalf("a large one is encoded %x in %d bytes, want %x", joined, cap(joined), want)
			}
			kv, err := ParseKV(got)
			if err != nil || !bytes.Equal(kv.Key(), m.Key) || !bytes.Equal(kv.Value(), m.Value) ||
				kv.CreateRevision() != m.CreateRevision || kv.ModRevision() != m.ModRevision ||
				kv.Version() != m.Version || kv.Lease() != m.Lease {
				t.Fatalf("parsed %s (%v), want %v", kvText(kv), err, m)
			}
			f.value = nil
			if short := kv.AppendWithoutValue([]byte("x"), true); !bytes.Equal(short[1:], f.append(nil)) {
				t.Fatalf("without value %x", short)
			}
			f.lease = 0
			if short := kv.AppendWithoutValue([]byte("x"), false); !bytes.Equal(short[1:], f.append(nil)) {
				t.Fatalf("without value and lease %x", short)
			}
		})
	}
}

func FuzzParseKV(f *testing.F) {
	f.Add([]byte{})
	f.Add((&fields{key: []byte("key"), create: 1, mod: 2, version: 3, value: []byte("v"), lease: -4}).append(nil))
	f.Add([]byte{tagKey, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{tagVersion, 0x80, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		kv, err := ParseKV(raw)
		if err != nil {
			return
		}
		var m mvccpb.KeyValue
		if err := proto.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%x is a KeyValue here and none to protobuf: %v", raw, err)
		}
		if !bytes.Equal(m.Key, kv.Key()) || !bytes.Equal(m.Value, kv.Value()) || m.Lease != kv.Lease() || m.Version != kv.Version() {
			t.Fatalf("%x is %s here and %v to protobuf", raw, kvText(kv), &m)
		}
	})
}

func FuzzParseHistory(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 'k'})
	f.Add(binary.AppendUvarint([]byte{1}, math.MaxUint64))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, v []byte) {
		kind, prev, size, key, err := parseHistory(v)
		if err != nil {
			return
		}
		again := binary.AppendUvarint([]byte{byte(kind)}, uint64(prev.Main))
		again = binary.AppendUvarint(again, uint64(prev.Sub))
		again = append(binary.AppendUvarint(again, uint64(size)), key...)
		kind2, prev2, size2, key2, err := parseHistory(again)
		if err != nil || kind2 != kind || prev2 != prev || size2 != size || !bytes.Equal(key2, key) {
			t.Fatalf("%x decodes to %v %v %q, and that to %v %v %q (%v)", v, kind, prev, key, kind2, prev2, key2, err)
		}
	})
}
