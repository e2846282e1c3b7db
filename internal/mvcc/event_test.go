package mvcc

import (
	"fmt"
	"strings"
	"testing"
)

// An event names the leases of the version that it wrote and of the one before, wherever that one was found: on
// disk, in the group or among the keys written lately.
func TestEventsNameTheLeasesOfBothVersions(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := newStore(t)
	text := func(fn func(w *Writer)) string {
		w := s.NewWriter()
		w.Begin()
		fn(w)
		w.End()
		out := ""
		for _, e := range w.Events() {
			out += fmt.Sprintf("%d%s:%d<-%d ", e.Kind, e.Key, e.Lease, e.PrevLease)
		}
		must(w.Commit())
		return strings.TrimSpace(out)
	}
	put := func(w *Writer, key string, lease int64) {
		_, _, err := w.Put([]byte(key), nil, lease)
		must(err)
	}
	blind := func(w *Writer, key string, lease int64) { must(w.PutBlind([]byte(key), nil, lease)) }
	erase := func(w *Writer, key, end string) {
		_, err := w.DeleteRange([]byte(key), []byte(end), nil)
		must(err)
	}
	for _, c := range []struct {
		name string
		do   func(w *Writer)
		want string
	}{
		{"new keys", func(w *Writer) { put(w, "a", 7); blind(w, "b", -8); put(w, "c", 0); put(w, "d", 9) }, "0a:7<-0 0b:-8<-0 0c:0<-0 0d:9<-0"},
		{"keys written lately", func(w *Writer) { blind(w, "a", 7); blind(w, "b", 0); blind(w, "c", 1) }, "0a:7<-7 0b:0<--8 0c:1<-0"},
		{"keys read", func(w *Writer) { put(w, "a", 2); put(w, "b", 3); put(w, "c", 0) }, "0a:2<-7 0b:3<-0 0c:0<-1"},
		{"keys of the group", func(w *Writer) { put(w, "a", 4); blind(w, "a", 5); put(w, "a", 6) }, "0a:4<-2 0a:5<-4 0a:6<-5"},
		{"a delete, and a put after it", func(w *Writer) { erase(w, "a", ""); blind(w, "a", 1) }, "1a:0<-6 0a:1<-0"},
		{"a range, in the group and on disk", func(w *Writer) { put(w, "b", 9); erase(w, "a", "d") }, "0b:9<-3 1a:0<-1 1b:0<-9 1c:0<-0"},
		{"a key that was deleted lately", func(w *Writer) { blind(w, "b", 4); erase(w, "none", "") }, "0b:4<-0"},
		{"all", func(w *Writer) { erase(w, "a", "\x00") }, "1b:0<-4 1d:0<-9"},
	} {
		if got := text(c.do); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
