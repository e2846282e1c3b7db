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

func TestPoisonOverwritesAllThereIsRoomForExactlyInBuildsWithTheTag(t *testing.T) {
	t.Parallel()
	b := []byte("held for somebody")
	Poison(b[:4])
	if kept := string(b) == "held for somebody"; kept == Enabled {
		t.Fatalf("%q is left in a build with Enabled = %v", b, Enabled)
	}
	for i, x := range b {
		if Enabled && x != b[0] {
			t.Fatalf("byte %d is left: %q", i, b)
		}
	}
}
