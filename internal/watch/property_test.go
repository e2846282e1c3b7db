package watch

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestTheModelOfPromises drives random writes, compactions and watchers and checks every message against the model.
func TestTheModelOfPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		o := Options{
			RingBytes:     rapid.SampledFrom([]int{1, 2000, 1 << 20}).Draw(rt, "ring"),
			QueueBytes:    rapid.SampledFrom([]int{1, 300, 3000, 1 << 20}).Draw(rt, "queue"),
			ResponseBytes: rapid.SampledFrom([]int{20, 500, 1 << 20}).Draw(rt, "response"),
		}
		inbox := rapid.SampledFrom([]int{1000, 1 << 20}).Draw(rt, "inbox")
		r := &run{rt: rt, l: newLab(rt, o), o: o}
		r.l.hub.in.bytesMax = inbox
		rt.Repeat(map[string]func(*rapid.T){
			"write":    r.write,
			"write 2":  r.write,
			"burst":    r.burst,
			"compact":  r.compact,
			"open":     r.open,
			"create":   r.create,
			"create 2": r.create,
			"cancel":   r.cancel,
			"resume":   r.resume,
			"read":     r.read,
			"read all": r.readAll,
			"progress": r.progress,
			"notify":   r.notify,
			"drop":     r.drop,
			"reset":    r.reset,
		})
		for _, c := range r.clients {
			c.finish()
			r.ended(c)
		}
		if st := r.l.hub.Stats(); st.Pending != 0 && len(r.clients) == 0 {
			rt.Fatalf("with no stream left, %+v", st)
		}
	})
}

// run is one run of the property.
type run struct {
	rt      *rapid.T
	l       *lab
	o       Options
	clients []*client
	nextID  int64
}

func drawKey(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "b1", "c", "d"}).Draw(rt, "key")
}

// changes draws the changes of one entry.
func (r *run) changes(rt *rapid.T) (out []change) {
	for range rapid.IntRange(1, 4).Draw(rt, "changes") {
		k := drawKey(rt)
		switch rapid.IntRange(0, 5).Draw(rt, "change") {
		case 0:
			out = append(out, del(k))
		case 1:
			out = append(out, delRange(k, rapid.SampledFrom([]string{"\x00", "c", "zz"}).Draw(rt, "end")))
		default:
			out = append(out, put(k, rapid.SampledFrom([]string{"", "v", fmt.Sprintf("%0120d", 7)}).Draw(rt, "value")))
		}
	}
	return out
}

func (r *run) write(rt *rapid.T) { r.l.write(r.changes(rt)...) }

func (r *run) burst(rt *rapid.T) {
	for i := range rapid.IntRange(5, 40).Draw(rt, "entries") {
		r.l.write(put(fmt.Sprintf("%c", 'a'+i%5), fmt.Sprint(i)))
	}
}

func (r *run) compact(rt *rapid.T) {
	low := max(r.l.compact, 0)
	if r.l.rev <= low {
		rt.Skip("all is compacted")
	}
	r.l.compactTo(rapid.Int64Range(low+1, r.l.rev).Draw(rt, "compact"))
}

func (r *run) open(rt *rapid.T) {
	if len(r.clients) >= 4 {
		rt.Skip("enough streams")
	}
	r.clients = append(r.clients, r.l.open())
}

// client draws a stream.
func (r *run) client(rt *rapid.T) *client {
	if len(r.clients) == 0 {
		rt.Skip("no stream")
	}
	return r.clients[rapid.IntRange(0, len(r.clients)-1).Draw(rt, "stream")]
}

func (r *run) create(rt *rapid.T) {
	c := r.client(rt)
	bit := func(name string) bool { return rapid.IntRange(0, 3).Draw(rt, name) == 0 }
	spec := Spec{
		Key: []byte(drawKey(rt)), Start: rapid.Int64Range(0, r.l.rev+5).Draw(rt, "start"),
		NoPut: bit("no put"), NoDelete: bit("no delete"), PrevKV: bit("prev") || bit("prev too"),
		ProgressNotify: bit("notify"), Fragment: bit("fragment"),
	}
	if end := rapid.SampledFrom([]string{"", "\x00", "c", "zz"}).Draw(rt, "end"); end == "\x00" || end > string(spec.Key) {
		spec.End = []byte(end)
	}
	r.add(c, spec)
}

func (r *run) add(c *client, spec Spec) {
	r.nextID++
	spec.ID = r.nextID
	c.create(spec)
}

// watcher draws one of a stream's watchers.
func (r *run) watcher(rt *rapid.T, c *client) *follower {
	var all []*follower
	for id := int64(1); id <= r.nextID; id++ {
		if f := c.watchers[id]; f != nil {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		rt.Skip("no watcher")
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(rt, "watcher")]
}

func (r *run) cancel(rt *rapid.T) {
	c := r.client(rt)
	f := r.watcher(rt, c)
	c.s.Cancel(f.spec.ID)
	for c.try() {
	}
	if !f.canceled {
		rt.Fatalf("canceling %+v says nothing", f.spec)
	}
	delete(c.watchers, f.spec.ID)
}

// resume cancels a watcher and starts another where it was.
func (r *run) resume(rt *rapid.T) {
	c := r.client(rt)
	f := r.watcher(rt, c)
	c.s.Cancel(f.spec.ID)
	for c.try() {
	}
	delete(c.watchers, f.spec.ID)
	spec := f.spec
	spec.Start = max(f.start, f.last+1, f.bookmark+1)
	r.add(c, spec)
}

func (r *run) read(rt *rapid.T) {
	c := r.client(rt)
	for range rapid.IntRange(1, 5).Draw(rt, "messages") {
		if !c.try() {
			return
		}
	}
}

func (r *run) readAll(rt *rapid.T) {
	c := r.client(rt)
	c.finish()
	r.ended(c)
}

// ended checks how watchers ended.
func (r *run) ended(c *client) {
	for _, f := range c.watchers {
		if f.canceled && (f.compacted <= f.last || f.compacted < f.start || f.compacted > r.l.compact) {
			r.rt.Fatalf("%+v, at %d, was canceled with %d, compacted to %d", f.spec, f.last, f.compacted, r.l.compact)
		}
	}
}

func (r *run) progress(rt *rapid.T) { r.client(rt).s.RequestProgress() }

func (r *run) notify(rt *rapid.T) { r.client(rt).s.NotifyProgress() }

func (r *run) drop(rt *rapid.T) {
	c := r.client(rt)
	c.s.Close()
	for i := range r.clients {
		if r.clients[i] == c {
			r.clients = append(r.clients[:i], r.clients[i+1:]...)
			return
		}
	}
}

// reset does what the installation of a snapshot does: revisions come that were not published.
func (r *run) reset(rt *rapid.T) {
	r.l.commit(r.changes(rt)...)
	r.l.hub.Reset()
}
