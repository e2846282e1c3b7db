package watch

import (
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// TestAMissingVersionIsAnError also where it is wanted twice, as an event and as what was before the next one, and read for
// the latter: what was before may be missing.
func TestAMissingVersionIsAnError(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	l.write(put("k", "1"))
	l.write(put("other", "1"))
	l.write(put("k", "2"))
	for name, order := range map[string][]int{"read for its event": {1, 0, 2}, "read for the next event": {1, 2, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := l.store.View(0)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			third, fourth := mvcc.Revision{Main: 3}, mvcc.Revision{Main: 4}
			c := chunk{keys: []byte("kk"), withPrev: true, records: []record{ // of history that says that k was written at 3
				{rev: third, kind: mvcc.EventPut, plain: true, keyUpto: 1},
				{rev: fourth, prev: third, kind: mvcc.EventPut, withPrev: true, keyFrom: 1, keyUpto: 2},
			}}
			c.plan()
			for i, load := range order {
				c.turns[i].load = load
			}
			versions := v.Versions()
			for range order {
				if err = c.read(versions); err != nil {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), "the version 3/0 that history names is missing") {
				t.Errorf("reading ends with %v", err)
			}
		})
	}
}
