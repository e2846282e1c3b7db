package auth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Found by test/differential: with one permission around a range that ends before it begins etcd allows the range; another
// permission, at the top of its tree, hides the first.
func TestRangesThatEndBeforeTheyBegin(t *testing.T) {
	t.Parallel()
	l := enabled(t)
	l.must(addUser("u"), addRole("r"), grantRole("u", "r"))
	for _, p := range []Permission{
		{Kind: Read, Key: []byte("d")},
		{Kind: ReadWrite, Key: []byte("e/1"), End: []byte("z")},
	} {
		l.must(func(c *Change) error { return c.GrantPermission("r", p) })
	}
	j := l.judge("u")
	if err := j.Write([]byte("e/2"), []byte("c")); err != nil {
		t.Errorf("to write: %v", err)
	}
	if err := j.Read([]byte("e/2"), []byte("c")); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("to read: %v", err)
	}
	if err := j.Read([]byte("e/2"), []byte("e/1\x00")); err != nil {
		t.Errorf("to read behind the top: %v", err)
	}
	if err := j.Write([]byte("d/2"), []byte("c")); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("to write before the top: %v", err)
	}
}

// The shape of the tree is that of a red-black tree, whatever the order of insertions.
func TestTheTreeOfIntervalsKeepsItsRules(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		tree := intervals{nodes: make([]interval, 1)}
		for range r.IntN(60) {
			begin := fmt.Append(nil, r.IntN(30))
			tree.insert(spanOf(begin, append(begin, byte(1+r.IntN(4)))))
			tree.check(t, tree.root)
		}
		if order := tree.inOrder(tree.root); !slices.IsSortedFunc(order, func(a, b int) int {
			x, y := tree.nodes[a], tree.nodes[b]
			return cmp.Or(bytes.Compare(x.begin, y.begin), bytes.Compare(x.end, y.end), cmp.Compare(a, b))
		}) {
			t.Fatalf("the order is %v", order)
		}
	}
}

// inOrder is the nodes of a subtree from left to right; they are numbered as they were inserted.
func (t *intervals) inOrder(x int) []int {
	if x == 0 {
		return nil
	}
	c := t.nodes[x].child
	return slices.Concat(t.inOrder(c[left]), []int{x}, t.inOrder(c[right]))
}

// check checks the rules of a subtree and returns how many black nodes every way down has.
func (t *intervals) check(tb testing.TB, x int) int {
	n := t.nodes[x]
	if x == 0 {
		if n.red {
			tb.Fatal("the leaf is red")
		}
		return 1
	}
	for side, c := range n.child {
		if c == 0 {
			continue
		}
		other := t.nodes[c]
		order := bytes.Compare(other.begin, n.begin)
		if other.parent != x || n.red && other.red || side == left && order > 0 || side == right && order < 0 {
			tb.Fatalf("a node %+v below %+v", other, n)
		}
	}
	black := t.check(tb, n.child[left])
	if again := t.check(tb, n.child[right]); again != black {
		tb.Fatalf("%d and %d black nodes below %+v", black, again, n)
	}
	if !n.red {
		black++
	}
	return black
}
