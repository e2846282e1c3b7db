package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestThePrefixOfAKeyEndsAtASlash(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 100)
	for key, want := range map[string]string{
		"/registry/pods/default/a": "/registry/pods/", "/registry/pods/": "/registry/pods/", "/registry/pods": "/registry/",
		"registry/pods/a": "registry/pods/", "a": "", "": "", "/": "/", "//": "//", "/a": "/",
		long: long[:prefixMax], "/" + long + "/a/b": "/" + long[:prefixMax-1],
	} {
		if got := string(prefixOf([]byte(key))); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}

func FuzzThePrefixOfAKeyIsItsBeginning(f *testing.F) {
	f.Add([]byte("/registry/pods/default/a"))
	f.Fuzz(func(t *testing.T, key []byte) {
		if p := prefixOf(key); len(p) > prefixMax && lastSlash(p) != len(p)-1 || !bytes.HasPrefix(key, p) || len(p) > prefixMax {
			t.Errorf("%q of %q", p, key)
		}
	})
}

func TestVersionsOfClientsAreBounded(t *testing.T) {
	t.Parallel()
	m := NewMeasures(false)
	for i := range 10 * versionsMax {
		md := metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, fmt.Sprint("3.", i))
		m.client(metadata.NewIncomingContext(t.Context(), md), "unary")
	}
	for _, strange := range []string{"a b", "\xff", strings.Repeat("3", 100)} {
		m.client(metadata.NewIncomingContext(t.Context(), metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, strange)), "unary")
	}
	m.client(t.Context(), "stream")
	kinds, sum := 0, uint64(0)
	m.EachClient(func(k Client, n uint64) {
		kinds++
		sum += n
		if !plain(k.Version) {
			t.Errorf("%q is told", k.Version)
		}
	})
	if kinds > versionsMax+2 || sum != 10*versionsMax+4 {
		t.Errorf("%d kinds, %d requests", kinds, sum)
	}
}

func TestCallsAreCountedByTheirStatus(t *testing.T) {
	t.Parallel()
	const name = "/s/M"
	m := NewMeasures(true)
	c := &Calls{Service: "s", Method: "M"}
	m.calls[name] = c
	g := &guard{measures: m, hasLeader: func() bool { return true }}
	refused := status.Error(codes.NotFound, "no")
	for _, err := range []error{nil, refused, nil, errors.New("without a status"), status.Error(codes.Code(99), "strange")} {
		handler := func(context.Context, any) (any, error) { return nil, err }
		if _, got := g.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: name}, handler); got != err {
			t.Fatalf("got %v, want %v", got, err)
		}
	}
	for code, want := range map[codes.Code]uint64{codes.OK: 2, codes.NotFound: 1, codes.Unknown: 1, codes.Unauthenticated: 1} {
		if got := c.Handled[code].Value(); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
	if c.Started.Value() != 5 || c.Received.Value() != 5 || c.Sent.Value() != 5 || c.Times != nil {
		t.Errorf("started %d, received %d, sent %d", c.Started.Value(), c.Received.Value(), c.Sent.Value())
	}
	if _, err := g.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s/Unknown"},
		func(context.Context, any) (any, error) { return nil, nil }); err != nil {
		t.Errorf("a method that is not known: %v", err)
	}
}

func BenchmarkCountingACall(b *testing.B) {
	const name = "/etcdserverpb.KV/Put"
	m := NewMeasures(false)
	m.calls[name] = &Calls{}
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, "3.7"))
	key := []byte("/registry/pods/default/a")
	b.ReportAllocs()
	for b.Loop() {
		c, begin := m.begin(ctx, name, "unary")
		c.Received.Inc()
		m.BytesReceived.Add(100)
		m.cost(key, 100)
		m.BytesSent.Add(30)
		c.Sent.Inc()
		c.ended(nil, begin)
	}
}
