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
