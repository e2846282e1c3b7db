package auth

import "bytes"

// A range whose end is before its begin has no keys, so nobody is harmed whatever a judge says of it; but a
// transaction with one in it is refused or not as a whole, and members of both kinds must agree. etcd keeps the permissions of a
// user in a red-black tree of intervals as they are, and looks for the ones that overlap the range. For a range
// that is none, which nodes it visits depends on the shape of the tree. So the tree is built here, when it is needed, as
// the textbook says (Cormen et al., chapters 13.3 and 14.3), by the same insertions in the same order.

// intervals is such a tree. Node 0 is the leaf of all leaves.
type intervals struct {
	nodes []interval
	root  int
}

type interval struct {
	span
	max    []byte // the largest end in the subtree; nil is behind all keys
	red    bool
	parent int
	child  [2]int
}

// Sides of a node.
const (
	left  = 0
	right = 1
)

// holdsBackwards tells whether etcd permits the range of a span that ends before it begins, when the given spans are
// permitted, in the order in which they are found.
func holdsBackwards(given []span, s span) bool {
	t := intervals{nodes: make([]interval, 1, 1+len(given))}
	for _, p := range given {
		t.insert(p)
	}
	t.measure(t.root)
	return t.overlaps(t.root, s)
}

// insert adds a span. Of equal begins the smaller end goes first, of equal spans the one that came first.
func (t *intervals) insert(s span) {
	parent, side := 0, left
	for x := t.root; x != 0; x = t.nodes[x].child[side] {
		parent, side = x, right
		if c := bytes.Compare(s.begin, t.nodes[x].begin); c < 0 || c == 0 && below(s.end, t.nodes[x].end) {
			side = left
		}
	}
	z := len(t.nodes)
	t.nodes = append(t.nodes, interval{span: s, red: true, parent: parent})
	if parent == 0 {
		t.root = z
	} else {
		t.nodes[parent].child[side] = z
	}
	t.balance(z)
}

// balance restores the colours' rules after z was added.
func (t *intervals) balance(z int) {
	n := t.nodes
	for n[n[z].parent].red {
		p := n[z].parent
		g := n[p].parent
		side := left
		if p == n[g].child[right] {
			side = right
		}
		if uncle := n[g].child[1-side]; n[uncle].red {
			n[p].red, n[uncle].red, n[g].red = false, false, true
			z = g
			continue
		}
		if z == n[p].child[1-side] {
			t.rotate(p, side)
			p = z // it stands where its parent stood
		}
		n[p].red, n[g].red = false, true
		t.rotate(g, 1-side)
		break // the new top is black
	}
	n[t.root].red = false
}

// rotate moves x down to a side, and its child of the other side up.
func (t *intervals) rotate(x, side int) {
	n := t.nodes
	y := n[x].child[1-side]
	n[x].child[1-side] = n[y].child[side]
	if moved := n[y].child[side]; moved != 0 {
		n[moved].parent = x
	}
	p := n[x].parent
	n[y].parent = p
	switch {
	case p == 0:
		t.root = y
	case x == n[p].child[left]:
		n[p].child[left] = y
	default:
		n[p].child[right] = y
	}
	n[y].child[side], n[x].parent = x, y
}

// measure finds the largest end of each subtree.
func (t *intervals) measure(x int) {
	if x == 0 {
		return
	}
	n := &t.nodes[x]
	n.max = n.end
	for _, c := range n.child {
		t.measure(c)
		if c != 0 && below(n.max, t.nodes[c].max) {
			n.max = t.nodes[c].max
		}
	}
}

// overlaps walks as etcd does. REQUIRES: s ends before it begins.
func (t *intervals) overlaps(x int, s span) bool {
	if x == 0 {
		return false
	}
	n := &t.nodes[x]
	switch {
	case bytes.Compare(s.begin, n.begin) < 0:
		return t.overlaps(n.child[left], s)
	case below(s.begin, n.end):
		return true
	case below(s.begin, n.max) && bytes.Compare(n.begin, s.end) < 0:
		return t.overlaps(n.child[left], s) || t.overlaps(n.child[right], s)
	}
	return false
}
