package mvcc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestRangeAnswersAsEtcd wants what etcd 3.7.1 answered to the same requests on the same keys.
func TestRangeAnswersAsEtcd(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "z", "b", "y", "c", "x", "d", "w", "a", "z")
	all := RangeOptions{Key: []byte("a"), End: []byte("e")}
	cases := map[string]struct {
		set  func(o *RangeOptions)
		want string // keys, count, more
	}{
		"everything":                                     {func(o *RangeOptions) {}, "a b c d 4"},
		"a negative limit is none":                       {func(o *RangeOptions) { o.Limit = -1 }, "a b c d 4"},
		"a limit of all is not more":                     {func(o *RangeOptions) { o.Limit = 4 }, "a b c d 4"},
		"a limit counts all":                             {func(o *RangeOptions) { o.Limit = 2 }, "a b 4 more"},
		"descending keys":                                {func(o *RangeOptions) { o.Limit, o.Order = 2, SortDescend }, "d c 4 more"},
		"a target without order sorts the first only":    {func(o *RangeOptions) { o.Limit, o.Target = 2, SortByValue }, "c b 4 more"},
		"ascending values":                               {func(o *RangeOptions) { o.Limit, o.Target, o.Order = 2, SortByValue, SortAscend }, "d c 4 more"},
		"descending values":                              {func(o *RangeOptions) { o.Limit, o.Target, o.Order = 2, SortByValue, SortDescend }, "a b 4 more"},
		"ties of a descending sort keep the keys' order": {func(o *RangeOptions) { o.Limit, o.Target, o.Order = 3, SortByVersion, SortDescend }, "a b c 4 more"},
		"a filter does not count":                        {func(o *RangeOptions) { o.Limit, o.MinMod = 2, 4 }, "a c 4 more"},
		"a filter decides about more":                    {func(o *RangeOptions) { o.Limit, o.MinMod = 1, 6 }, "a 4"},
		"keys only":                                      {func(o *RangeOptions) { o.Limit, o.Target, o.KeysOnly = 2, SortByValue, true }, "c b 4 more"},
		"count only":                                     {func(o *RangeOptions) { o.Limit, o.CountOnly = 2, true }, "4"},
		"count only with a filter":                       {func(o *RangeOptions) { o.MinMod, o.CountOnly = 5, true }, "4"},
		"an end before the key is nothing":               {func(o *RangeOptions) { o.End = []byte("A") }, "0"},
		"from a key on":                                  {func(o *RangeOptions) { o.Key, o.End = []byte("c"), []byte{0} }, "c d 2"},
		"an older revision":                              {func(o *RangeOptions) { o.Rev = 3 }, "a b 2"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := all
			c.set(&o)
			text := read(t, s, o)
			var got []string
			for _, word := range strings.Fields(text) {
				if key, value, isKV := strings.Cut(word, "="); isKV {
					got = append(got, key)
					if o.KeysOnly != (value[0] == '@') {
						t.Errorf("value of %s", word)
					}
				} else if word != "count" {
					got = append(got, word)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
}

func TestRevisionsThatCannotBeReadAreRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "a", "2", "a", "3") // revisions 2, 3, 4
	before, err := s.View(2)
	if err != nil {
		t.Fatal(err)
	}
	compact(t, s, 3)
	cases := map[string]struct {
		rev  int64
		want error
	}{
		"0 is the current one":       {0, nil},
		"so is a negative one":       {-5, nil},
		"the current one":            {4, nil},
		"the compact revision":       {3, nil},
		"below the compact revision": {2, ErrCompacted},
		"one above the current":      {5, ErrFutureRevision},
		"the largest":                {maxRevision, ErrFutureRevision},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v, err := s.View(c.rev)
			if err == nil {
				defer v.Close()
			}
			if !sameError(err, c.want) {
				t.Errorf("view at %d: %v, want %v", c.rev, err, c.want)
			}
			now, err := s.View(0)
			if err != nil {
				t.Fatal(err)
			}
			defer now.Close()
			if _, err := now.Range(RangeOptions{Key: []byte("a"), Rev: c.rev}, func(KV) error { return nil }); !sameError(err, c.want) {
				t.Errorf("range at %d: %v, want %v", c.rev, err, c.want)
			}
		})
	}
	// A view opened before the compaction goes on.
	text, err := rangeText(before, RangeOptions{Key: []byte("a"), End: []byte("b")})
	if err != nil || text != "a=1@2/2/1 count 1" {
		t.Errorf("a view from before the compaction reads %s (%v)", text, err)
	}
	if err := before.Close(); err != nil {
		t.Error(err)
	}
}

func TestSortingIsBoundedInMemory(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "2")
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	o := RangeOptions{Key: []byte("a"), End: []byte("c"), Target: SortByMod, Order: SortDescend}
	q := query{o: o, rev: v.rev, src: v, sortBytesMax: 20, emit: func(KV) error { return errors.New("emitted") }}
	if err := q.run(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("sorting two key-values in 20 bytes: %v", err)
	}
}

func TestAnErrorOfEmitEndsTheRange(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "2")
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	enough := errors.New("enough")
	for _, o := range []RangeOptions{{}, {Order: SortDescend}, {Target: SortByValue}} {
		o.Key, o.End = []byte("a"), []byte("c")
		n := 0
		if _, err := v.Range(o, func(KV) error { n++; return enough }); err != enough || n != 1 {
			t.Errorf("%+v: %v after %d", o, err, n)
		}
	}
}

// TestARangeThatGivesNothingOutIsAskedWhetherItHasEnded, each 1,024 keys.
func TestARangeThatGivesNothingOutIsAskedWhetherItHasEnded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	entry(t, s, func(w *Writer) {
		for i := range 3 * askEvery {
			if _, _, err := w.Put(fmt.Appendf(nil, "a%06d", i), []byte("v"), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	enough := errors.New("enough")
	const never = 1 << 40
	for name, o := range map[string]RangeOptions{
		"all are left out":                {MinMod: never},
		"so they are in descending order": {MinCreate: never, Order: SortDescend},
		"with a limit, and keys alone":    {MinMod: never, Limit: 1, KeysOnly: true},
		"sorted":                          {Target: SortByValue},
		"sorted, and all are left out":    {MaxMod: 1, Target: SortByVersion},
	} {
		o.Key, o.End = []byte("a"), []byte("b")
		asked := 0
		o.Ended = func() error {
			if asked++; asked == 2 {
				return enough
			}
			return nil
		}
		if _, err := v.Range(o, func(KV) error { return errors.New("it gave one out") }); err != enough || asked != 2 {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
}

// TestPagesCountTheirWholeRange reads pages of every length from every key, at revisions before and after a third of the keys were deleted and others
// created, with ends in and behind the runs, and wants the count of a walk over the whole range.
func TestPagesCountTheirWholeRange(t *testing.T) {
	t.Parallel()
	const keys = 40 // a run has 3 to 6
	s := newStore(t)
	name := func(i int) string { return fmt.Sprintf("k%02d", i) }
	for i := range keys {
		put(t, s, name(i), "1")
	}
	before := s.Revision()
	for i := 0; i < keys; i += 3 {
		del(t, s, name(i), "")
		put(t, s, name(i)+"new", "1")
	}
	for i := 12; i < 24; i++ { // some runs are empty
		del(t, s, name(i), name(i+1))
	}
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, rev := range []int64{before, v.Current()} {
		for _, end := range []string{name(9), name(18), name(keys - 1), "l", "\x00"} {
			for from := range keys {
				o := RangeOptions{Key: []byte(name(from)), End: []byte(end), Rev: rev}
				want, err := v.Range(o, func(KV) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
				for o.Limit = 1; o.Limit <= keys; o.Limit++ {
					given := int64(0)
					got, err := v.Range(o, func(KV) error { given++; return nil })
					if err != nil {
						t.Fatal(err)
					}
					if got.Count != want.Count || given != min(o.Limit, want.Count) || got.More != (given < want.Count) {
						t.Fatalf("%d keys of [%s, %q) at %d: %d given, count %d, more %t; there are %d",
							o.Limit, o.Key, end, rev, given, got.Count, got.More, want.Count)
					}
				}
			}
		}
	}
}
