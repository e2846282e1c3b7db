package invariant

import "testing"

func TestCheckPanicsExactlyInBuildsWithTheTag(t *testing.T) {
	t.Parallel()
	panicked := func() (p bool) {
		defer func() { p = recover() != nil }()
		Check(false, "the number is %d", 7)
		return false
	}()
	if panicked != Enabled {
		t.Fatalf("panicked = %v in a build with Enabled = %v", panicked, Enabled)
	}
	Check(true, "a rule that holds")
}
