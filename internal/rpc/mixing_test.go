package rpc

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
)

// stamped is a value that says whose it is: the key and what makes it different from others of the key, and bytes that follow from both.
func stamped(key string, n, size int) []byte {
	head := fmt.Sprintf("%s/%d/%d|", key, n, size)
	fill := byte(crc32.ChecksumIEEE([]byte(head)))
	return append([]byte(head), bytes.Repeat([]byte{fill}, size)...)
}

// checkStamped returns what is wrong with a key-value whose value stamped has made.
func checkStamped(kv *mvccpb.KeyValue) error {
	head, _, _ := bytes.Cut(kv.GetValue(), []byte("|"))
	var n, size int
	key, rest, ok := strings.Cut(string(head), "/")
	if _, err := fmt.Sscanf(rest, "%d/%d", &n, &size); !ok || err != nil || key != string(kv.GetKey()) || !bytes.Equal(kv.GetValue(), stamped(key, n, size)) {
		return fmt.Errorf("the value of %q, of %d bytes, begins with %q", kv.GetKey(), len(kv.GetValue()), kv.GetValue()[:min(60, len(kv.GetValue()))])
	}
	return nil
}

const (
	mixKeys    = 150
	mixWorkers = 6
	mixCalls   = 60
	// mixPatience is how long a call may take.
	mixPatience = 2 * time.Minute
)

// mixer is a client that asks for anything, gives up often, and looks at each byte that it is answered.
type mixer struct {
	t      *testing.T
	addr   string
	random *rand.Rand
	conn   *grpc.ClientConn
	asked  int // values that were looked at
}

func (m *mixer) dial() {
	if m.conn != nil {
		_ = m.conn.Close() // in the midst of what others ask is what is wanted
	}
	conn, err := grpc.NewClient(m.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10), // answers wait for who reads
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		m.t.Error(err)
		return
	}
	m.conn = conn
}

func (m *mixer) key() string { return fmt.Sprintf("k%03d", m.random.IntN(mixKeys)) }

func (m *mixer) size() int {
	return m.random.IntN([]int{40, 300, 3_000, 9_000, 70_000}[m.random.IntN(5)])
}

func (m *mixer) check(kvs ...*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if m.asked++; kv != nil {
			if err := checkStamped(kv); err != nil {
				m.t.Error(err)
			}
		}
	}
}

// call makes one call, and perhaps gives it up.
func (m *mixer) call(n int) {
	ctx, cancel := context.WithTimeout(context.Background(), mixPatience)
	defer cancel()
	switch m.random.IntN(4) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.random.IntN(4_000))*time.Microsecond)
		defer cancel()
	case 1:
		timer := time.AfterFunc(time.Duration(m.random.IntN(3_000))*time.Microsecond, cancel)
		defer timer.Stop()
	case 2:
		if m.random.IntN(10) == 0 {
			conn := m.conn
			timer := time.AfterFunc(time.Duration(m.random.IntN(3_000))*time.Microsecond, func() { _ = conn.Close() })
			defer m.dial()
			defer timer.Stop()
		}
	}
	kv := etcdserverpb.NewKVClient(m.conn)
	var packed []grpc.CallOption
	if m.random.IntN(4) == 0 {
		packed = append(packed, grpc.UseCompressor(gzip.Name))
	}
	err := m.ask(ctx, kv, m.key(), n, packed)
	switch status.Code(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
	default:
		m.t.Error(err)
	}
}

func (m *mixer) ask(ctx context.Context, kv etcdserverpb.KVClient, key string, n int, o []grpc.CallOption) error {
	all := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: int64(m.random.IntN(mixKeys))}
	switch m.random.IntN(8) {
	case 0, 1:
		r, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Value: stamped(key, n, m.size()), PrevKv: true}, o...)
		m.check(r.GetPrevKv())
		return err
	case 2, 3:
		r, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(key)}, o...)
		m.check(r.GetKvs()...)
		return err
	case 4:
		r, err := kv.Range(ctx, all, o...)
		m.check(r.GetKvs()...)
		return err
	case 5:
		s, err := kv.RangeStream(ctx, all, o...)
		for err == nil {
			var r *etcdserverpb.RangeStreamResponse
			r, err = s.Recv()
			m.check(r.GetRangeResponse().GetKvs()...)
			if err == nil && m.random.IntN(20) == 0 {
				return nil // and the rest is never read
			}
		}
		if err == io.EOF {
			err = nil
		}
		return err
	case 6:
		r, err := kv.DeleteRange(ctx, &etcdserverpb.DeleteRangeRequest{Key: []byte(key), PrevKv: true}, o...)
		m.check(r.GetPrevKvs()...)
		return err
	default:
		other := m.key()
		r, err := kv.Txn(ctx, txn(ops{opRange(key), opRange(other), {Request: &etcdserverpb.RequestOp_RequestPut{
			RequestPut: &etcdserverpb.PutRequest{Key: []byte(other), Value: stamped(other, n, m.size()), PrevKv: true}}}}, nil), o...)
		for _, x := range r.GetResponses() {
			m.check(x.GetResponseRange().GetKvs()...)
			m.check(x.GetResponsePut().GetPrevKv())
		}
		return err
	}
}

// TestNobodyGetsBytesOfSomebodyElse: requests and answers of all kinds and sizes are under way at once, many are given up or their connections
// closed at any moment, and clients read late. What is stored and what is answered is what its key says, to the byte: buffers are used
// again, and test builds with invariants overwrite those that are given back.
func TestNobodyGetsBytesOfSomebodyElse(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	kv := NewKV(s, KVOptions{Conns: NewConns()})
	kv.gradualFrom = 20 << 10
	addr := serveKV(t, kv, kv.budget.conns)
	var wg sync.WaitGroup
	for i := range mixWorkers {
		m := &mixer{t: t, addr: addr, random: rand.New(rand.NewPCG(7, uint64(i)))}
		m.dial()
		wg.Go(func() {
			defer func() { _ = m.conn.Close() }() // it may be closed by now
			var calls sync.WaitGroup
			for n := range mixCalls {
				// Two more at a time on the same connection, by a client of their own.
				for k := range 2 {
					x := &mixer{t: t, conn: m.conn, addr: addr, random: rand.New(rand.NewPCG(uint64(n), uint64(i*2+k)))}
					calls.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), mixPatience)
						defer cancel()
						if err := x.ask(ctx, etcdserverpb.NewKVClient(x.conn), x.key(), n, nil); err != nil && status.Code(err) != codes.Canceled &&
							status.Code(err) != codes.Unavailable {
							t.Error(err)
						}
					})
				}
				m.call(i*mixCalls + n)
				calls.Wait()
			}
			if m.asked == 0 {
				t.Error("no value was looked at")
			}
		})
	}
	wg.Wait()
	kv.idle(t)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := etcdserverpb.NewKVClient(conn).Range(t.Context(), &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil || len(r.GetKvs()) < mixKeys/2 {
		t.Fatalf("%d keys are left: %v", len(r.GetKvs()), err)
	}
	for _, kv := range r.GetKvs() {
		if err := checkStamped(kv); err != nil {
			t.Error(err)
		}
	}
}
