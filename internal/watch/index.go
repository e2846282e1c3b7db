package watch

import "math/rand/v2"

// index finds the watchers of a key. Watchers of single keys are in a map, ranges in an interval tree of which each node
// holds all watchers of one range, so that many watchers of one prefix cost one node. Its owner guards it.
type index struct {
	points map[string]*watcher // the first of a list
	root   *span
	n      int
}

// span is one range and its watchers: a node of a treap in order of (key, end), in which each node knows the
// greatest end below it.
type span struct {
	key, end    string // end "" is behind all keys
	max         string // the greatest end of the subtree
	priority    uint64
	left, right *span
	first       *watcher
}

// newSpan returns the range [key, end); see Spec for end.
func newSpan(key, end string) *span {
	if end == fromKeyOn {
		end = ""
	}
	return &span{key: key, end: end, max: end}
}

// fromKeyOn is the range end that means all keys from the first one on.
const fromKeyOn = "\x00"

// add puts w in.
func (x *index) add(w *watcher) {
	x.n++
	w.before = nil
	if w.span == nil {
		if x.points == nil {
			x.points = make(map[string]*watcher)
		}
		w.after = x.points[w.key]
		x.points[w.key] = w
	} else {
		x.root, w.span = x.insert(x.root, w.span)
		w.after, w.span.first = w.span.first, w
	}
	if w.after != nil {
		w.after.before = w
	}
}

// remove takes w out. REQUIRES: it is in.
func (x *index) remove(w *watcher) {
	x.n--
	if w.after != nil {
		w.after.before = w.before
	}
	switch {
	case w.before != nil:
		w.before.after = w.after
	case w.span == nil && w.after == nil:
		delete(x.points, w.key)
	case w.span == nil:
		x.points[w.key] = w.after
	case w.after != nil:
		w.span.first = w.after
	default:
		x.root = x.delete(x.root, w.span)
	}
	w.before, w.after = nil, nil
}

// match appends the first watcher of each key or range that holds key; the others follow by watcher.after.
func (x *index) match(key []byte, dst []*watcher) []*watcher {
	if w := x.points[string(key)]; w != nil {
		dst = append(dst, w)
	}
	return x.root.stab(key, dst)
}

func (n *span) stab(key []byte, dst []*watcher) []*watcher {
	for n != nil && (n.max == "" || string(key) < n.max) {
		dst = n.left.stab(key, dst)
		if string(key) < n.key {
			return dst
		}
		if n.end == "" || string(key) < n.end {
			dst = append(dst, n.first)
		}
		n = n.right
	}
	return dst
}

// compare orders spans.
func (n *span) compare(o *span) int {
	switch {
	case n.key < o.key:
		return -1
	case n.key > o.key:
		return 1
	case n.end == o.end:
		return 0
	case n.end != "" && (o.end == "" || n.end < o.end):
		return -1
	}
	return 1
}

// insert puts a range below n, unless it is there, and returns the new top and the range's node.
func (x *index) insert(n, s *span) (top, found *span) {
	if n == nil {
		fresh := &span{key: s.key, end: s.end, max: s.end}
		fresh.priority = rand.Uint64()
		return fresh, fresh
	}
	switch c := s.compare(n); {
	case c == 0:
		return n, n
	case c < 0:
		n.left, found = x.insert(n.left, s)
		if n.left.priority > n.priority {
			n = n.rotateRight()
		}
	default:
		n.right, found = x.insert(n.right, s)
		if n.right.priority > n.priority {
			n = n.rotateLeft()
		}
	}
	n.update()
	return n, found
}

// delete takes the range s out of the tree below n and returns the new top.
func (x *index) delete(n, s *span) *span {
	switch c := s.compare(n); {
	case c < 0:
		n.left = x.delete(n.left, s)
	case c > 0:
		n.right = x.delete(n.right, s)
	default:
		return join(n.left, n.right)
	}
	n.update()
	return n
}

// join joins two trees, all of a before all of b.
func join(a, b *span) *span {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		a.right = join(a.right, b)
		a.update()
		return a
	}
	b.left = join(a, b.left)
	b.update()
	return b
}

func (n *span) rotateRight() *span {
	l := n.left
	n.left, l.right = l.right, n
	n.update()
	return l
}

func (n *span) rotateLeft() *span {
	r := n.right
	n.right, r.left = r.left, n
	n.update()
	return r
}

// update computes max anew.
func (n *span) update() {
	n.max = n.end
	for _, c := range [...]*span{n.left, n.right} {
		if c != nil && n.max != "" && (c.max == "" || c.max > n.max) {
			n.max = c.max
		}
	}
}
