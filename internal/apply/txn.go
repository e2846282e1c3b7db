package apply

import (
	"cmp"
	"context"
	"errors"
	"math"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// answerMax bounds the answer of a deletion, and those of one transaction together: no message can hold more.
const answerMax = math.MaxInt32

// txn applies a TxnRequest.
func (g *group) txn(raw []byte, want bool) ([]byte, error) {
	t, err := ParseTxn(raw)
	if err != nil {
		return nil, err
	}
	p, err := decide(g.w, &t)
	if err != nil {
		return nil, err
	}
	c := g.checker()
	err = c.plan(p)
	g.m.counts.did(p.looked+c.looked, 0)
	if err != nil {
		return nil, err
	}
	x := executor{w: g.w, from: g.w, revision: g.w.Revision, want: want, left: answerMax, counts: g.m.counts}
	a, err := x.run(p)
	g.m.counts.did(p.operations())
	if err != nil || !want {
		return nil, err
	}
	// A read that failed must not undo the writes: members at which nobody waits have not read at all.
	if g.unread = x.unread; g.unread != nil {
		return nil, nil
	}
	return a.append(make([]byte, 0, a.size)), nil
}

// ReadTxn answers a transaction that is ReadOnly, outside the log. v must be open at the
// current revision. rev is the revision for the response's header. Errors: those of
// mvcc.Reader.Range, and that of ctx. hold, when not nil, is called before that many more bytes are held, until ReadTxn returns; its
// error is returned as it is. What is held then is the body.
func ReadTxn(ctx context.Context, v *mvcc.View, t *Txn, counts *Counts, hold func(bytes int) error) (body []byte, rev int64, err error) {
	from := &ending{View: v, ctx: ctx}
	p, err := decide(from, t)
	if err != nil {
		return nil, 0, err
	}
	c := checker{from: v, rev: v.Current(), compacted: v.CompactRevision()}
	if err := c.plan(p); err != nil {
		counts.did(p.looked, 0)
		return nil, 0, err
	}
	x := executor{from: from, revision: v.Current, want: true, left: answerMax, hold: hold}
	a, err := x.run(p)
	ranges, _ := p.operations()
	counts.did(p.looked+ranges, 0)
	if err != nil {
		return nil, 0, err
	}
	if hold != nil {
		if err := hold(a.size); err != nil {
			return nil, 0, err
		}
	}
	return a.append(make([]byte, 0, a.size)), v.Current(), nil
}

// executor carries a checked plan out.
type executor struct {
	w        *mvcc.Writer // nil when the plan only reads
	from     mvcc.Reader
	revision func() int64 // that of a read now
	want     bool         // answers are wanted
	left     int          // how many bytes the answers may still have
	hold     func(bytes int) error
	counts   *Counts
	unread   error // why a range or a deletion of a transaction that writes has no answer
}

// run carries out the operations in order. The answer is nil unless wanted.
func (x *executor) run(p *plan) (*txnAnswer, error) {
	var answers []answer
	if x.want {
		answers = make([]answer, 0, len(p.ops))
	}
	nested := p.nested
	for i := range p.ops {
		op := &p.ops[i]
		var a answer
		var err error
		if op.Txn != nil {
			a, err = x.nested(nested[0])
			nested = nested[1:]
		} else {
			a, err = x.one(op)
		}
		if err != nil {
			return nil, err
		}
		if x.want {
			answers = append(answers, a)
		}
	}
	if !x.want {
		return nil, nil
	}
	return newTxnAnswer(p.succeeded, answers), nil
}

func (x *executor) nested(p *plan) (answer, error) {
	t, err := x.run(p)
	if err != nil || !x.want {
		return answer{}, err
	}
	return nestedAnswer(t), nil
}

// one carries out an operation that is no transaction.
func (x *executor) one(op *Op) (answer, error) {
	switch {
	case op.Put != nil:
		body, err := write(x.w, op.Put, x.want, x.counts)
		return x.answer(answerPut, body), err
	case op.DeleteRange != nil:
		body, unread, err := erase(x.w, op.DeleteRange, x.want && x.unread == nil, x.left, x.counts)
		x.unread = cmp.Or(x.unread, unread)
		return x.answer(answerDeleteRange, body), err
	case op.Range != nil && x.want:
		body, err := x.read(op.Range)
		return x.answer(answerRange, body), err
	default:
		return answer{}, nil
	}
}

// read carries out a range. In a transaction that writes, what is too large ends the reading and nothing else.
func (x *executor) read(r *Range) ([]byte, error) {
	if x.unread != nil {
		return nil, nil
	}
	body, _, err := AppendRange(nil, x.from, r, x.left, x.hold)
	if x.w != nil && (errors.Is(err, ErrTooLarge) || errors.Is(err, mvcc.ErrTooLarge)) {
		x.unread, err = err, nil
	}
	return body, err
}

// answer is that of an operation just carried out; its header carries the revision that a read would see now.
func (x *executor) answer(field answerField, body []byte) answer {
	if !x.want {
		return answer{}
	}
	x.left = max(0, x.left-len(body))
	return leafAnswer(field, x.revision(), body)
}
