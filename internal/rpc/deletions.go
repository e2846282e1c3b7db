package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// deleteKeysMax is the default of KVOptions.DeleteKeysMax. A deleted key takes three times its own length and about 70
// bytes in the one batch of its entry, and the storage ends at 4 GiB: so the lengths of all of them together are bounded,
// too. So few as deleteKeysFew are within that bound, however long they are.
const (
	deleteKeysMax  = 1_000_000
	deleteBytesMax = 1 << 30
	deleteKeysFew  = 500
)

// errAnswerTooLarge is returned for a deletion that would answer with more than responseMax, before it is one.
var errAnswerTooLarge = status.Errorf(codes.ResourceExhausted,
	"ashlar: the keys and values that prev_kv asks for are larger than %d bytes: delete smaller ranges, or without prev_kv", responseMax)

// checkDeletion refuses a transaction, or a deletion by itself, that would delete too many keys. It looks at the store as
// it is here and now; the bound leaves room for what is written before the request is applied.
func (s *KV) checkDeletion(ctx context.Context, ranges ...*apply.DeleteRange) error {
	if len(ranges) == 0 {
		return nil
	}
	v, err := s.member.View(0)
	if err != nil {
		return err
	}
	return closing(v, s.countDeleted(ctx, v, ranges))
}

func (s *KV) countDeleted(ctx context.Context, v *mvcc.View, ranges []*apply.DeleteRange) error {
	// Keys are counted without looking at any: so it ends here in all but large stores.
	all, err := countKeys(v, nil, []byte{0})
	if err != nil || all <= min(deleteKeysFew, s.deleteKeysMax) {
		return err
	}
	sum := int64(0)
	for _, d := range ranges {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := countKeys(v, d.Key, d.RangeEnd)
		if err != nil {
			return err
		}
		if sum += n; sum > s.deleteKeysMax {
			return status.Errorf(codes.ResourceExhausted,
				"ashlar: one request may delete up to %d keys, this one would delete more: delete smaller ranges", s.deleteKeysMax)
		}
	}
	if sum <= deleteKeysFew {
		return nil
	}
	return s.measureDeleted(ctx, v, ranges)
}

// measureDeleted refuses what deletes keys that are too long together.
func (s *KV) measureDeleted(ctx context.Context, v *mvcc.View, ranges []*apply.DeleteRange) error {
	left := s.deleteBytesMax
	for _, d := range ranges {
		_, err := v.Range(mvcc.RangeOptions{Key: d.Key, End: d.RangeEnd, KeysOnly: true, SkipCount: true}, func(kv mvcc.KV) error {
			if left -= int64(len(kv.Key())); left < 0 {
				return status.Errorf(codes.ResourceExhausted,
					"ashlar: one request may delete keys of up to %d bytes together, this one would delete more: delete smaller ranges",
					s.deleteBytesMax)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkAnswer refuses a deletion of a range that would answer with more than a message holds: it would be carried out, and what was deleted be told to
// nobody.
func (s *KV) checkAnswer(ctx context.Context, d *apply.DeleteRange) error {
	if !d.PrevKV {
		return nil
	}
	err := s.measureAnswer(ctx, d)
	if !errors.Is(err, errAnswerTooLarge) {
		return err
	}
	if err := s.member.ReadBarrier(ctx); err != nil { // this member may be behind, and the keys be fewer by now
		return err
	}
	return s.measureAnswer(ctx, d)
}

func (s *KV) measureAnswer(ctx context.Context, d *apply.DeleteRange) error {
	v, err := s.member.View(0)
	if err != nil {
		return err
	}
	if v.SizeInUse() <= s.answerMax {
		return closing(v, nil)
	}
	left := s.answerMax
	measured := func(length int) error {
		if left -= int64(length); left < 0 {
			return errAnswerTooLarge
		}
		return ctx.Err()
	}
	_, err = v.Range(mvcc.RangeOptions{Key: d.Key, End: d.RangeEnd, Measure: measured}, func(mvcc.KV) error { return mvcc.ErrMeasure })
	return closing(v, err)
}

func countKeys(v *mvcc.View, key, end []byte) (int64, error) {
	res, err := v.Range(mvcc.RangeOptions{Key: key, End: end, CountOnly: true}, nil)
	return res.Count, err
}

// deletions returns the ranges of several keys that t may delete, each once. Of two branches it takes both: which one
// is carried out, nobody knows yet.
func deletions(t *apply.Txn) []*apply.DeleteRange {
	type bounds struct{ key, end string }
	var out []*apply.DeleteRange
	var seen map[bounds]bool
	var add func(*apply.Txn)
	add = func(t *apply.Txn) {
		for _, branch := range [2][]apply.Op{t.Success, t.Failure} {
			for i := range branch {
				d := branch[i].DeleteRange
				switch {
				case branch[i].Txn != nil:
					add(branch[i].Txn)
				case d == nil || len(d.RangeEnd) == 0 || seen[bounds{string(d.Key), string(d.RangeEnd)}]:
				default:
					if seen == nil {
						seen = make(map[bounds]bool)
					}
					seen[bounds{string(d.Key), string(d.RangeEnd)}] = true
					out = append(out, d)
				}
			}
		}
	}
	add(t)
	return out
}
