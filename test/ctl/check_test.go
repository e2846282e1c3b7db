package ctl

import (
	"strings"
	"testing"
)

// TestAChecksKeysAreRemovedInPages, as one request for three million of them would be refused; and nothing beside them is.
func TestAChecksKeysAreRemovedInPages(t *testing.T) {
	t.Parallel()
	m := startMember(t)
	const before, after = "/etcdctl-check-datascale.", "/etcdctl-check-datascale0"
	m.must(t, "put", before, "")
	m.must(t, "put", after, "")
	got := m.must(t, "check", "datascale", "--auto-compact")
	if !strings.Contains(got, "PASS: ") || !strings.HasSuffix(got, "\nCompacted with revision 10006\n") { // two puts, 10,000 of the check, and three pages
		t.Errorf("got %q", got)
	}
	if left := m.must(t, "get", "", "--prefix", "--keys-only"); left != before+"\n\n"+after+"\n\n" {
		t.Errorf("there is %q", left)
	}
}
