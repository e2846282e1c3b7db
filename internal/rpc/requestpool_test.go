package rpc

import (
	"bytes"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
)

func TestARequestIsJoinedInABufferLittleLargerThanItself(t *testing.T) {
	t.Parallel()
	for n := 0; n <= 3<<20; n += 1 + n/97 {
		r := new(requestBuffers)
		b := r.Get(n)
		if len(*b) != n {
			t.Fatalf("%d bytes: got %d", n, len(*b))
		}
		if most := max(5<<requestExponentMin/4, 2*n); cap(*b) > most {
			t.Errorf("%d bytes: a buffer of %d, want at most %d", n, cap(*b), most)
		}
		r.Put(b)
		if again := r.Get(n); len(*again) != n {
			t.Errorf("%d bytes, a second time: got %d", n, len(*again))
		}
	}
	const value = 64 << 10
	if b := requestPool.Get(value + 100); cap(*b) != value*5/4 {
		t.Errorf("a value of 64 KiB and its key: a buffer of %d", cap(*b))
	}
}

func TestForeignMemoryIsNotPooled(t *testing.T) {
	t.Parallel()
	r := new(requestBuffers)
	for _, size := range []int{0, 1, 639, 641, 80<<10 + 1, 4 << 20} {
		b := make([]byte, size)
		r.Put(&b)
		if got := r.Get(size); cap(*got) == size && size > 0 && &(*got)[:1][0] == &b[:1][0] {
			t.Errorf("%d bytes came back", size)
		}
	}
}

// TestARequestOfManyFramesIsTakenWhole joins buffers that held something else before.
func TestARequestOfManyFramesIsTakenWhole(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		want := marshal(t, &etcdserverpb.PutRequest{Key: []byte("k"), Value: bytes.Repeat([]byte{byte('a' + i)}, 64<<10-i*1000)})
		var frames mem.BufferSlice
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 16<<10)
			frames = append(frames, mem.SliceBuffer(rest[:n]))
			rest = rest[n:]
		}
		r := &Request{method: MethodPut}
		if err := r.take(frames); err != nil {
			t.Fatal(err)
		}
		if string(r.Raw()) != string(want) {
			t.Errorf("request %d differs", i)
		}
		r.free()
	}
}
