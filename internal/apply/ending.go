package apply

import (
	"context"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// askEvery is after how many key-values of a range it is looked whether anybody still waits for them.
const askEvery = 1024

// ending reads from a view until a context ends, and gives out its error then.
type ending struct {
	*mvcc.View
	ctx   context.Context
	given int
}

func (e *ending) Range(o mvcc.RangeOptions, emit func(kv mvcc.KV) error) (mvcc.RangeResult, error) {
	if err := e.ctx.Err(); err != nil {
		return mvcc.RangeResult{}, err
	}
	o.Ended = e.ctx.Err
	return e.View.Range(o, func(kv mvcc.KV) error {
		if e.given++; e.given%askEvery == 0 {
			if err := e.ctx.Err(); err != nil {
				return err
			}
		}
		return emit(kv)
	})
}
