package differential

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// term is that of all entries.
const term = 3

// step is one thing that a pair is told. Exactly one of the first five is set.
type step struct {
	command *etcdserverpb.InternalRaftRequest
	conf    *raftpb.ConfChange
	read    *etcdserverpb.RangeRequest
	readTxn *etcdserverpb.TxnRequest
	start   start
	// wire is how the request of the command is written, if not as the library does.
	wire []byte
	// unwanted says that nobody waits for the result of the command.
	unwanted bool
	// settle says that Ashlar applies what it has after this step, and the states are compared.
	settle bool
}

// name is what the table calls it.
func (s step) name() string {
	switch {
	case s.start != "":
		return "start: " + string(s.start)
	case s.conf != nil:
		return "conf_change " + s.conf.GetType().String()
	case s.read != nil:
		return "read: range"
	case s.readTxn != nil:
		return "read: txn"
	}
	name := "nothing"
	if f, _ := commandOf(s.command); f != nil {
		name = string(f.Name())
	}
	if s.wire != nil {
		name += ", oddly written"
	}
	return name
}

func (s step) String() string {
	one := prototext.MarshalOptions{}
	switch {
	case s.start != "":
		return s.name()
	case s.conf != nil:
		return fmt.Sprintf("%s %s", s.name(), one.Format(s.conf))
	case s.read != nil:
		return fmt.Sprintf("%s %s", s.name(), one.Format(s.read))
	case s.readTxn != nil:
		return fmt.Sprintf("%s %s", s.name(), one.Format(s.readTxn))
	}
	if s.wire != nil {
		return fmt.Sprintf("%s, written as %x", one.Format(s.command), s.wire)
	}
	return one.Format(s.command)
}

// pair is both machines.
type pair struct {
	t     testing.TB
	e     *etcd
	a     *ashlar
	tally *tally
	rnd   *rand.Rand // chooses where to look, never what is done

	index   uint64 // of the newest entry
	pending []applied
	members []uint64 // every id that a configuration change named
}

// applied is an entry that etcd has applied and Ashlar has yet to.
type applied struct {
	step  step
	entry *raftpb.Entry
	want  outcome
}

func newPair(t testing.TB, tally *tally) *pair {
	return &pair{t: t, e: newEtcd(t), a: newAshlar(t), tally: tally, rnd: rand.New(rand.NewPCG(1, 2))}
}

func (p *pair) close() {
	p.e.close()
	p.a.close()
}

// do does one step. The error tells a difference.
func (p *pair) do(s step) error {
	if s.start != "" {
		p.tally.entry(s.name(), false)
		return p.start(s.start)
	}
	if why := p.skipped(s); why != "" {
		p.tally.skip(why)
		return nil
	}
	if s.read != nil || s.readTxn != nil {
		return p.doRead(s)
	}
	entry, err := p.entry(s)
	if err != nil {
		return err
	}
	want, err := p.e.apply(entry, p.index, !s.unwanted)
	if err != nil {
		return fmt.Errorf("entry %d, %s: %w", p.index, s, err)
	}
	p.tally.entry(s.name(), want.err != nil)
	p.pending = append(p.pending, applied{s, entry, want})
	if s.conf != nil || s.settle {
		return p.settle()
	}
	return nil
}

// entry makes the next entry of the log.
func (p *pair) entry(s step) (*raftpb.Entry, error) {
	p.index++
	e := &raftpb.Entry{Index: proto.Uint64(p.index), Term: proto.Uint64(term), Type: raftpb.EntryNormal.Enum()}
	if s.wire != nil {
		f, _ := commandOf(s.command)
		h := s.command.GetHeader()
		e.Data = apply.Encode(apply.Header{ID: p.index, Username: h.GetUsername(), AuthRevision: h.GetAuthRevision()},
			apply.Command(f.Number()), s.wire)
		return e, nil
	}
	var m proto.Message = s.command
	if s.conf != nil {
		e.Type = raftpb.EntryConfChange.Enum()
		m = s.conf
		p.members = append(p.members, s.conf.GetNodeId())
	} else {
		c := proto.CloneOf(s.command)
		if c.Header == nil {
			c.Header = &etcdserverpb.RequestHeader{}
		}
		c.Header.ID = p.index
		m = c
	}
	var err error
	e.Data, err = proto.Marshal(m)
	return e, err
}

// settle lets Ashlar apply what it has not applied yet, and compares.
func (p *pair) settle() error {
	if len(p.pending) == 0 {
		return nil
	}
	todo := p.pending
	p.pending = nil
	var err error
	if todo[len(todo)-1].step.conf != nil {
		last := todo[len(todo)-1]
		if err = p.settleNormal(todo[:len(todo)-1]); err == nil {
			err = p.settleConf(last)
		}
	} else {
		err = p.settleNormal(todo)
	}
	if err == nil {
		err = p.compact()
	}
	if err == nil {
		err = p.compareStates()
	}
	if err != nil {
		return fmt.Errorf("%w\nin the group that ends with entry %d: %s", err, p.index, todo[len(todo)-1].step)
	}
	return nil
}

func (p *pair) settleNormal(todo []applied) error {
	if len(todo) == 0 {
		return nil
	}
	entries, unwanted := make([]*raftpb.Entry, 0, len(todo)), map[uint64]bool{}
	for _, x := range todo {
		entries = append(entries, x.entry)
		unwanted[x.entry.GetIndex()] = x.step.unwanted
	}
	results, err := p.a.apply(entries, func(id uint64) bool { return !unwanted[id] })
	if err != nil {
		return fmt.Errorf("ashlar stops: %w", err)
	}
	for _, x := range todo {
		if x.step.unwanted || x.step.onlyReads() {
			continue
		}
		r, ok := results[x.entry.GetIndex()]
		if !ok {
			return fmt.Errorf("entry %d, %s: no result of Ashlar's", x.entry.GetIndex(), x.step)
		}
		if err := compareResults(x, r); err != nil {
			return err
		}
		p.tally.results++
	}
	return nil
}

func (p *pair) settleConf(x applied) error {
	r, err := p.a.confChange(x.entry)
	if err != nil {
		return fmt.Errorf("entry %d, %s: ashlar stops: %w", x.entry.GetIndex(), x.step, err)
	}
	p.tally.results++
	return compareResults(x, r)
}

func compareResults(x applied, r apply.Result) error {
	got, err := outcomeOf(r, x.want.resp)
	if err != nil {
		return fmt.Errorf("entry %d, %s: %w", x.entry.GetIndex(), x.step, err)
	}
	if d := x.want.differences(got); d != "" {
		return fmt.Errorf("entry %d, %s: the results differ:%s", x.entry.GetIndex(), x.step, d)
	}
	return nil
}

// onlyReads tells whether a command is one of the reads that etcd logs; Ashlar applies them as nothing.
func (s step) onlyReads() bool {
	c := s.command
	return c != nil && (c.Range != nil || c.AuthStatus != nil || c.AuthUserGet != nil || c.AuthUserList != nil ||
		c.AuthRoleGet != nil || c.AuthRoleList != nil)
}

// compact lets Ashlar remove a part of what is compacted, or all: how far it came must make no difference.
func (p *pair) compact() error {
	for p.a.store.CompactPending() {
		if _, err := p.a.store.CompactStep(context.Background(), 2+p.rnd.IntN(30)); err != nil {
			return err
		}
		if p.rnd.IntN(2) == 0 {
			return nil
		}
	}
	return nil
}

func (p *pair) compareStates() error {
	compacted, now := p.e.kv.FirstRev(), p.e.kv.Rev()
	revs := []int64{0, compacted, compacted - 1, now + 1, max(0, compacted) + p.rnd.Int64N(now-max(0, compacted)+1)}
	got, err := p.a.state(revs, p.members)
	if err != nil {
		return err
	}
	want := p.e.state(revs)
	if d := want.differences(got); d != "" {
		return errors.New("the states differ:" + d)
	}
	p.tally.states++
	p.tally.hashes += len(revs)
	return nil
}

func (p *pair) doRead(s step) error {
	if err := p.settle(); err != nil {
		return err
	}
	var want, got outcome
	var err error
	if s.read != nil {
		want = p.e.read(s.read)
		got, err = p.a.read(s.read)
	} else {
		want = p.e.readTxn(s.readTxn)
		got, err = p.a.readTxn(s.readTxn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	p.tally.entry(s.name(), want.err != nil)
	if d := want.differences(got); d != "" {
		return fmt.Errorf("%s: the answers differ:%s", s, d)
	}
	return nil
}

// run does steps on a new pair, as far as they go.
func run(t testing.TB, tally *tally, steps []step) error {
	p := newPair(t, tally)
	defer p.close()
	for _, s := range steps {
		if err := p.do(s); err != nil {
			return err
		}
	}
	return p.settle()
}

// shortest leaves steps out while there is still a difference, and returns those that are needed, with the difference.
func shortest(t testing.TB, steps []step, err error) ([]step, error) {
	for i := range steps {
		steps[i].settle = true
	}
	ignored := &tally{}
	if again := run(t, ignored, steps); again != nil {
		err = again
	}
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps) && len(steps) > 1; {
			fewer := append(append([]step{}, steps[:at]...), steps[at+size:]...)
			if again := run(t, ignored, fewer); again != nil {
				steps, err = fewer, again
				if size == 1 {
					at = max(0, at-len(steps)/4) // what is left before may not be needed any more
				}
			} else {
				at += size
			}
		}
	}
	return steps, err
}

// explain is a failure that somebody can act on.
func explain(t testing.TB, steps []step, err error) {
	t.Helper()
	few, short := shortest(t, steps, err)
	text := ""
	for _, s := range few {
		text += "\n  " + s.String()
	}
	t.Errorf("%v\n\nthe shortest log that shows it, with %d of %d steps:%s\n\n%v", err, len(few), len(steps), text, short)
}
