package e2e

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestTheProgramGivesTheMemoryOfAWrittenMemTableBack fails with a program that does not use package pebblemem, or does not find in it the version of Pebble
// that it was built with: Pebble keeps a memtable that is written for the next one.
func TestTheProgramGivesTheMemoryOfAWrittenMemTableBack(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	c, ctx := m.connect(t), within(t, process.Patience)
	_, err := c.Put(ctx, "key", "value")
	noError(t, err)
	_, err = c.Defragment(ctx, m.client) // which writes what is in memory to a table
	noError(t, err)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		state := m.state(t)
		if state["flushes_total"] == "0" || state["flushes_total"] == "" {
			t.Fatalf("nothing was written to a table: %v", state)
		}
		if state["memtable_kept_bytes"] == "0" {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the memory of a memtable is kept: %v", state)
		}
	}
	s.stop(t)
}

// state returns the metrics of the member's state, without what their names have in common.
func (m *member) state(t *testing.T) map[string]string {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t, process.Patience), http.MethodGet, m.client+"/metrics", http.NoBody)
	noError(t, err)
	resp, err := http.DefaultClient.Do(r)
	noError(t, err)
	defer resp.Body.Close()
	values := make(map[string]string)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "ashlar_storage_"); ok {
			if name, value, ok := strings.Cut(name, `{store="state"} `); ok {
				values[name] = value
			}
		}
	}
	noError(t, lines.Err())
	return values
}
