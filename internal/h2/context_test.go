package h2

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

func newCall() *stream {
	s := &stream{head: &head{path: "/a.B/C"}}
	s.parent, s.self = context.Background(), s
	return s
}

func TestContextsMadeOfACallEndWithIt(t *testing.T) {
	t.Parallel()
	s := newCall()
	child, stop := context.WithCancel(s)
	defer stop()
	grandchild, stop := context.WithTimeout(context.WithValue(child, probe{}, "v"), time.Hour)
	defer stop()
	called := make(chan struct{})
	context.AfterFunc(s, func() { close(called) })
	forgotten := context.AfterFunc(s, func() { t.Error("called though it was stopped") })
	if !forgotten() || forgotten() {
		t.Error("stopping is said to be done twice")
	}
	if s.Err() != nil || child.Err() != nil {
		t.Fatal("it has ended before its end")
	}
	s.cancel(context.DeadlineExceeded)
	s.cancel(context.Canceled)
	for _, ctx := range []context.Context{s, child, grandchild} {
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Error(ctx.Err())
		}
	}
	<-called
	late, stop := context.WithCancel(s)
	defer stop()
	<-late.Done()
	again := make(chan struct{})
	context.AfterFunc(s, func() { close(again) })
	<-again
	<-newEnded().Done()
}

func newEnded() *stream {
	s := newCall()
	s.cancel(context.Canceled)
	return s
}

func TestACallIsFoundInItsContext(t *testing.T) {
	t.Parallel()
	s := newCall()
	ctx, stop := context.WithCancel(s)
	defer stop()
	if grpc.ServerTransportStreamFromContext(ctx) != grpc.ServerTransportStream(s) {
		t.Error("another")
	}
	if m, ok := grpc.Method(ctx); !ok || m != "/a.B/C" {
		t.Error(m)
	}
	if streamKey == nil {
		t.Error("no key was learned")
	}
}

func TestContextsMayBeMadeWhileACallEnds(t *testing.T) {
	t.Parallel()
	for range 200 {
		s := newCall()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				ctx, stop := context.WithCancel(s)
				defer stop()
				<-ctx.Done()
			})
		}
		wg.Go(func() { s.cancel(context.Canceled) })
		wg.Wait()
	}
}
