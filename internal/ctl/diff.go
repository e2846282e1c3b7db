package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// diffFlags are the flags of diff.
type diffFlags struct {
	prefix   string
	values   bool
	exitCode bool
	decode   decoding
}

func (s *session) diffCommand() *cobra.Command {
	var f diffFlags
	c := &cobra.Command{Use: "diff [options] <revision> [revision]", Short: "Prints what differs between two revisions",
		Long: "Prints which keys were added (+), removed (-) and changed (~) from one revision to another, or to the newest one.\n" +
			"Both are read side by side, a page at a time; the first must not be compacted."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return badArguments("diff needs one revision, or two")
		}
		revisions := [2]int64{}
		for i, a := range args {
			r, err := strconv.ParseInt(a, 10, 64)
			if err != nil || r < 1 {
				return badArguments("%q is no revision", a)
			}
			revisions[i] = r
		}
		if err := errors.Join(f.decode.check(), s.forms("simple", "json")); err != nil {
			return err
		}
		return s.diff(ctx, &f, revisions[0], revisions[1])
	})
	set := c.Flags()
	set.StringVar(&f.prefix, "prefix", "", "only keys that begin so")
	set.BoolVar(&f.values, "values", false, "show what differs in the values, too")
	set.BoolVar(&f.exitCode, "exit-code", false, "end with status 1 when anything differs")
	f.decode.define(set)
	return c
}

// diff merges two scans, each a page of keys in memory.
func (s *session) diff(ctx context.Context, f *diffFlags, from, to int64) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	if to == 0 {
		if to, err = s.newestRevision(ctx, c, f.prefix); err != nil {
			return err
		}
	}
	d := &differences{s: s, flags: f, paint: s.paint()}
	if err := merge(ctx, s.scanPrefix(c, f.prefix, from), s.scanPrefix(c, f.prefix, to), d.pair); err != nil {
		return err
	}
	if s.settings.format != "json" {
		fmt.Fprintf(s.Stdout, "revision %d to %d: %d added, %d removed, %d changed\n", from, to, d.added, d.removed, d.changed)
	}
	if f.exitCode && d.added+d.removed+d.changed > 0 {
		return silent(statusError)
	}
	return nil
}

// newestRevision asks with a key that the user is to read anyway, for those who may read no other.
func (s *session) newestRevision(ctx context.Context, c *clientv3.Client, prefix string) (int64, error) {
	n := s.scanPrefix(c, prefix, 0)
	n.limit, n.keysOnly = 1, true
	err := n.read(ctx)
	return n.revision, err
}

// merge walks two scans in the order of keys. A key that one of them lacks comes with nil in its place.
func merge(ctx context.Context, before, after *scan, each func(a, b *mvccpb.KeyValue) error) error {
	a, err := before.next(ctx)
	if err != nil {
		return err
	}
	b, err := after.next(ctx)
	if err != nil {
		return err
	}
	for a != nil || b != nil {
		order := 0
		switch {
		case b == nil:
			order = -1
		case a == nil:
			order = 1
		default:
			order = bytes.Compare(a.GetKey(), b.GetKey())
		}
		left, right := a, b
		if order > 0 {
			left = nil
		}
		if order < 0 {
			right = nil
		}
		if err := each(left, right); err != nil {
			return err
		}
		if left != nil {
			if a, err = before.next(ctx); err != nil {
				return err
			}
		}
		if right != nil {
			if b, err = after.next(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// differences prints and counts them.
type differences struct {
	s                       *session
	flags                   *diffFlags
	paint                   paint
	added, removed, changed int64
}

// differenceLine is a difference as JSON; keys and values are base64.
type differenceLine struct {
	Change string `json:"change"`
	Key    []byte `json:"key"`
	From   int64  `json:"from_mod_revision,omitempty"`
	To     int64  `json:"to_mod_revision,omitempty"`
	Before []byte `json:"before,omitempty"`
	After  []byte `json:"after,omitempty"`
}

func (d *differences) pair(a, b *mvccpb.KeyValue) error {
	l := differenceLine{From: a.GetModRevision(), To: b.GetModRevision(), Key: b.GetKey()}
	mark := ""
	switch {
	case a == nil:
		d.added++
		l.Change, mark = "added", d.paint.green("+ "+shown(l.Key))
	case b == nil:
		d.removed++
		l.Key = a.GetKey()
		l.Change, mark = "removed", d.paint.red("- "+shown(l.Key))
	case a.GetModRevision() == b.GetModRevision():
		return nil
	default:
		d.changed++
		l.Change, mark = "changed", d.paint.yellow("~ "+shown(l.Key))
		mark += d.paint.dim(fmt.Sprintf("  revision %d to %d%s", l.From, l.To, sameness(a, b)))
	}
	if d.s.settings.format == "json" {
		if d.flags.values {
			l.Before, l.After = a.GetValue(), b.GetValue()
		}
		return json.NewEncoder(d.s.Stdout).Encode(l)
	}
	return (&page{Writer: d.s.Stdout}).buffered(func(p *page) {
		p.line(mark)
		if !d.flags.values {
			return
		}
		if b == nil {
			writeEdits(p, d.paint, allLines('-', d.flags.decode.lines(a.GetValue())))
			return
		}
		d.flags.decode.writeChange(p, d.paint, a.GetValue(), b.GetValue(), a != nil)
	})
}

// sameness tells of a key that was written without becoming another.
func sameness(a, b *mvccpb.KeyValue) string {
	switch {
	case !bytes.Equal(a.GetValue(), b.GetValue()):
		return ""
	case a.GetLease() != b.GetLease():
		return ", another lease"
	}
	return ", the same value"
}
