package kubernetes

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	owners = 6
	// progress is how many answered requests lie between one thing that is done to a member and the next.
	progress = 300
)

// Clients of the apiserver work while its store's members are killed in turn: what they were told is true, and who watches sees all of it.
func TestWhatTheAPIServerTellsIsTrueWhileMembersAreKilled(t *testing.T) {
	c := newCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	shared := newCounter(t, c.core())
	var done atomic.Int64
	var all []*owner
	var watching []*watcher
	for i := range owners {
		o := newOwner(t, c.core(), i, shared, &done)
		list, err := o.maps.List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w := &watcher{t: t, maps: o.maps, seen: map[string]object{}, versions: map[string]bool{}}
		if w.version, err = strconv.ParseInt(list.ResourceVersion, 10, 64); err != nil {
			t.Fatal(err)
		}
		for k := range list.Items {
			w.seen[list.Items[k].Name] = objectOf(&list.Items[k])
		}
		all, watching = append(all, o), append(watching, w)
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range owners {
		clients.Go(func() { all[i].work(ctx, stop) })
		clients.Go(func() { watching[i].follow(ctx) })
	}
	for range 2 {
		for _, m := range c.members {
			waitFor(ctx, t, &done, progress)
			m.kill()
			waitFor(ctx, t, &done, progress)
			m.start(t)
		}
	}
	waitFor(ctx, t, &done, progress)
	close(stop)
	clients.Wait()

	for i, o := range all {
		for _, name := range []string{rootCA, lastName} {
			delete(watching[i].seen, name)
			delete(o.known, name)
		}
		if !maps.Equal(watching[i].seen, o.known) {
			t.Errorf("owner %d knows of %v, and who watched of %v", i, o.known, watching[i].seen)
		}
		for version := range o.versions {
			if !watching[i].versions[version] {
				t.Errorf("who watched owner %d was not told of version %s", i, version)
			}
		}
	}
	added, doubtful := int(shared.added.Load()), int(shared.doubtful.Load())
	if _, n, err := shared.read(ctx); err != nil || n < added || n > added+doubtful {
		t.Errorf("the counter is %d (%v) after %d answered additions and %d others", n, err, added, doubtful)
	}
	if added == 0 {
		t.Error("nobody has added to the counter")
	}
	t.Logf("%d requests were answered, and %d additions to the counter", done.Load(), added)
}

// Events of Kubernetes hang on leases, which end.
func TestEventsOfKubernetesEnd(t *testing.T) {
	c := newCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events := c.core().Events(metav1.NamespaceDefault)
	made, err := events.Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "short"},
		InvolvedObject: corev1.ObjectReference{Namespace: metav1.NamespaceDefault}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := events.Watch(ctx, metav1.ListOptions{ResourceVersion: made.ResourceVersion, FieldSelector: "metadata.name=short"})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	for e := range stream.ResultChan() {
		if e.Type == watch.Deleted {
			return
		}
	}
	t.Error("the watch ended before the event did")
}

// waitFor returns once so many more requests were answered.
func waitFor(ctx context.Context, t *testing.T, done *atomic.Int64, more int64) {
	t.Helper()
	upto := done.Load() + more
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for done.Load() < upto {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("requests are not answered any more")
		}
	}
}
