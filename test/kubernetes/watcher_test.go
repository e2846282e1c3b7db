package kubernetes

import (
	"context"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// A watcher follows a namespace from its beginning, goes on where it was when its watch ends, and never reads what it did not see.
type watcher struct {
	t       *testing.T
	maps    typedcorev1.ConfigMapInterface
	version int64 // of what it has seen
	seen    map[string]object
	// versions are those of all objects that it was told of.
	versions map[string]bool
}

// follow returns once the owner's last object has been seen.
func (w *watcher) follow(ctx context.Context) {
	for {
		stream, err := w.maps.Watch(ctx, metav1.ListOptions{ResourceVersion: strconv.FormatInt(w.version, 10), AllowWatchBookmarks: true})
		if ctx.Err() != nil {
			w.t.Error("a watcher did not see the last object in time")
			return
		}
		if err != nil {
			continue
		}
		for e := range stream.ResultChan() {
			if !w.take(e) {
				break
			}
		}
		stream.Stop()
		if w.seen[lastName] != (object{}) {
			return
		}
	}
}

// take notes an event, which must fit to what was seen before, and says whether to go on.
func (w *watcher) take(e watch.Event) bool {
	m, ok := e.Object.(*corev1.ConfigMap)
	if !ok {
		w.t.Logf("a watch at %d ends: %v", w.version, e.Object)
		return false
	}
	version, err := strconv.ParseInt(m.ResourceVersion, 10, 64)
	if err != nil || version < w.version || version == w.version && e.Type != watch.Bookmark {
		w.t.Errorf("after %d comes %s of %s at %s: %v", w.version, e.Type, m.Name, m.ResourceVersion, err)
	}
	w.version = version
	_, known := w.seen[m.Name]
	switch e.Type {
	case watch.Bookmark:
		return true
	case watch.Added, watch.Modified:
		if known != (e.Type == watch.Modified) {
			w.t.Errorf("%s of %s at %d, which was there before: %v", e.Type, m.Name, version, known)
		}
		w.seen[m.Name], w.versions[m.ResourceVersion] = objectOf(m), true
	case watch.Deleted:
		if !known {
			w.t.Errorf("%s was deleted at %d and was not there", m.Name, version)
		}
		delete(w.seen, m.Name)
	default:
		w.t.Errorf("an event of type %s", e.Type)
	}
	return m.Name != lastName
}
