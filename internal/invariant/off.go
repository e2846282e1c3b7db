//go:build !invariants

package invariant

// Enabled tells whether this build checks invariants. It is a constant, so `if invariant.Enabled` costs
// nothing in other builds.
const Enabled = false

// Check does nothing in this build. See the build tag `invariants`.
func Check(bool, string, ...any) {}

// Poison does nothing in this build. See the build tag `invariants`.
func Poison([]byte) {}
