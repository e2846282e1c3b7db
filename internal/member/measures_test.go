package member

import (
	"errors"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

func TestTheTimeOfAGroupIsSharedOutEvenly(t *testing.T) {
	t.Parallel()
	x, tally := newMeasures(), new(tallies)
	for _, c := range []apply.Command{apply.CommandPut, apply.CommandPut, apply.CommandAuthEnable} {
		tally.add(c, nil)
	}
	tally.add(apply.CommandPut, errors.New("refused"))
	tally.flush(x.Applied, 4*time.Second, 4)
	tally.flush(x.Applied, time.Hour, 4) // of entries without a command
	for _, want := range []struct {
		cmd           apply.Command
		done, refused uint64
	}{{apply.CommandPut, 2, 1}, {apply.CommandAuthEnable, 1, 0}, {apply.CommandTxn, 0, 0}} {
		o := x.Applied[want.cmd]
		done, refused := o.Succeeded.Read(), o.Failed.Read()
		if done.Count != want.done || done.Sum != int64(want.done)*int64(time.Second) || refused.Count != want.refused {
			t.Errorf("%s: %+v, %+v", want.cmd, done, refused)
		}
	}
}
