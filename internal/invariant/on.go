//go:build invariants

package invariant

import "fmt"

// Enabled tells whether this build checks invariants. It is a constant, so `if invariant.Enabled` costs
// nothing in other builds.
const Enabled = true

// Check panics with the formatted message when ok is false. An expensive condition belongs inside
// `if invariant.Enabled`, since arguments are evaluated by the caller.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}

// Poison overwrites memory that is given back to be used again, all that b has room for: whoever reads it still is answered nonsense and
// not, now and then, what it held or holds for somebody else.
func Poison(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = poison
	}
}

const poison = 0xdd
