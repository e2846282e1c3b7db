package takeover

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// A log of etcd's is written as a list: INDEX/TERM is an entry, and so is FROM-TO/TERM; s before it makes it the record of a snapshot. cINDEX
// says how far it is committed, where that is not all.
func feed(st *stager, log string) error {
	for word := range strings.FieldsSeq(log) {
		if strings.HasPrefix(word, "c") {
			continue
		}
		var from, to, term uint64
		text, isSnapshot := strings.CutPrefix(word, "s")
		if _, err := fmt.Sscanf(text, "%d-%d/%d", &from, &to, &term); err != nil {
			if _, err := fmt.Sscanf(text, "%d/%d", &from, &term); err != nil {
				return err
			}
			to = from
		}
		for i := from; i <= to; i++ {
			var err error
			if isSnapshot {
				err = st.snapshot(etcdfile.WALSnapshot{Index: i, Term: term})
			} else {
				err = st.entry(&raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Index: proto.Uint64(i), Term: proto.Uint64(term)})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// committed returns how far a log that feed takes is committed.
func committed(log string) uint64 {
	for word := range strings.FieldsSeq(log) {
		var index uint64
		if _, err := fmt.Sscanf(word, "c%d", &index); err == nil {
			return index
		}
	}
	return math.MaxUint64
}

// written is what a log holds, in the same form.
func written(t *testing.T, l *raftlog.Log) string {
	t.Helper()
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("s%d/%d", l.Mark().Index, l.Mark().Term)
	for i := l.FirstIndex(); i <= l.LastIndex(); {
		term, err := l.Term(i)
		if err != nil {
			t.Fatal(err)
		}
		end := i
		for end < l.LastIndex() {
			if next, err := l.Term(end + 1); err != nil || next != term {
				break
			}
			end++
		}
		text += fmt.Sprintf(" %d-%d/%d", i, end, term)
		i = end + 1
	}
	return text
}

func TestWhatIsStagedIsTheLogThatEtcdWouldHave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log              string
		applied, catchUp uint64
		term             uint64
		want, refused    string
	}{
		"all, from the beginning":                       {"s0/0 1-9/1", 4, 100, 1, "s0/0 1-9/1", ""},
		"a database with nothing":                       {"s0/0 1-9/1", 0, 100, 0, "s0/0 1-9/1", ""},
		"the entries below the database are few":        {"s0/0 1-9/1", 6, 2, 1, "s4/1 5-9/1", ""},
		"none below the database":                       {"s0/0 1-5/1 6-9/2", 6, 0, 2, "s6/2 7-9/2", ""},
		"nothing above the database":                    {"s0/0 1-6/1", 6, 0, 1, "s6/1", ""},
		"the first files were removed":                  {"7-20/2", 10, 100, 2, "s7/2 8-20/2", ""},
		"a snapshot of its own":                         {"s0/0 1-5/1 s4/1 6-9/1", 5, 100, 1, "s0/0 1-9/1", ""},
		"a tail that was replaced":                      {"s0/0 1-9/1 7-8/2", 5, 100, 1, "s0/0 1-6/1 7-8/2", ""},
		"one that was replaced before what is wanted":   {"s0/0 1-5/1 4-9/2", 8, 2, 2, "s6/2 7-9/2", ""},
		"one that was replaced where it is wanted":      {"s0/0 1-9/1 6-8/2", 7, 1, 2, "s6/2 7-8/2", ""},
		"a snapshot that was received":                  {"s0/0 1-3/1 s9/2 10-12/2", 9, 100, 2, "s9/2 10-12/2", ""},
		"a snapshot alone":                              {"s0/0 s9/2", 9, 100, 2, "s9/2", ""},
		"one instead of entries that nobody else had":   {"s0/0 1-9/1 s5/2", 5, 100, 2, "s5/2", ""},
		"one instead of those, and entries behind it":   {"s0/0 1-9/1 s5/2 6-7/2", 6, 100, 2, "s5/2 6-7/2", ""},
		"the same, where no entry below it is wanted":   {"s0/0 1-9/1 s5/2 6-7/2", 5, 0, 2, "s5/2 6-7/2", ""},
		"the same, with nothing behind":                 {"s0/0 1-9/1 s5/2", 5, 0, 2, "s5/2", ""},
		"a gap":                                         {"s0/0 1-3/1 5/1", 2, 100, 1, "", "entry 5 follows entry 3"},
		"a database ahead of the log":                   {"s0/0 1-3/1", 5, 100, 1, "", "has applied entry 5"},
		"a log that begins too late":                    {"7-9/1", 3, 100, 1, "", "entries in between are missing"},
		"a snapshot whose database is not there":        {"s0/0 1-3/1 s9/2 10-12/2", 2, 100, 1, "", "entries in between are missing"},
		"a database and a log of different terms":       {"s0/0 1-9/1", 5, 100, 2, "", "has the term 2 in its database, and 1 in its log"},
		"an index of zero":                              {"s0/0 0/1", 0, 100, 0, "", "entry 0 follows"},
		"terms that change all the time":                {"s0/0 1/1 2/2 3/3 4/4 3/5 4-5/6", 2, 1, 2, "s1/1 2-2/2 3-3/5 4-5/6", ""},
		"a snapshot that was not received whole":        {"s0/0 1-5/1 s8/2 c5", 5, 100, 1, "s0/0 1-5/1", ""},
		"the same, with entries instead of it":          {"s0/0 1-5/1 s8/2 6-7/2 c7", 5, 100, 1, "s0/0 1-5/1 6-7/2", ""},
		"the same, in a log that was new":               {"s0/0 s8/2 c0", 0, 100, 0, "s0/0", ""},
		"a snapshot at the entry before what is staged": {"s0/0 1-6/1 s4/1 7/1 s6/1 8/1", 5, 1, 1, "s4/1 5-8/1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := raftlog.Open("log", raftlog.Options{Storage: storage.Options{FS: vfs.NewMem()}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}()
			a, err := l.Adopt()
			if err != nil {
				t.Fatal(err)
			}
			st := newStager(a, c.applied, committed(c.log), c.catchUp)
			var mark raftlog.Mark
			if err = feed(st, c.log); err == nil {
				mark, err = st.finish(c.term)
			}
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("mark %+v, %v; want %q", mark, err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Commit(storage.Identity{Format: 1}, raftlog.HardState{Commit: c.applied}, mark); err != nil {
				t.Fatal(err)
			}
			if got := written(t, l); got != c.want {
				t.Errorf("the log is %q, want %q", got, c.want)
			}
		})
	}
}
