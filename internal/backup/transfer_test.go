package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// line is a source far away: its transfers are cut after so many bytes, and it goes on with those that it still knows.
type line struct {
	content []byte
	id      string // "" for a source that cannot go on
	cuts    []int64
	asked   []Piece
	served  int64
}

var errWire = errors.New("the wire is cut")

// open serves what is asked for, up to the next cut; a cut of 0 is a source that cannot be reached.
func (l *line) open(_ context.Context, have Piece) (Transfer, error) {
	l.asked = append(l.asked, have)
	t := Transfer{ID: l.id, Size: int64(len(l.content))}
	if have.ID == l.id && l.id != "" {
		t.From = have.Bytes
	}
	left := int64(len(l.content)) - t.From
	if len(l.cuts) > 0 {
		if l.cuts[0] == 0 {
			l.cuts = l.cuts[1:]
			return Transfer{}, errWire
		}
		left, l.cuts = l.cuts[0], l.cuts[1:]
	}
	t.Body = &wire{l, l.content[t.From:], left}
	return t, nil
}

type wire struct {
	l    *line
	rest []byte
	left int64
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.rest) == 0 {
		return 0, io.EOF
	}
	if w.left <= 0 {
		return 0, errWire
	}
	n := copy(p[:min(int64(len(p)), w.left, 100_000)], w.rest)
	w.rest, w.left = w.rest[n:], w.left-int64(n)
	w.l.served += int64(n)
	return n, nil
}

func (w *wire) Close() error { return nil }

// largeContent is a database of some pieces and a bit.
func largeContent(t *testing.T) []byte {
	t.Helper()
	s := &store{users: 1}
	random := rand.NewChaCha8([32]byte{1})
	value := make([]byte, 90_000)
	for i := range 40 {
		random.Read(value)
		s.put(fmt.Sprintf("k%02d", i), fmt.Sprintf("%x", value[:45_000]))
	}
	path := filepath.Join(t.TempDir(), "content")
	if err := s.source().Fetch(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// create makes a point from the line, and returns what was logged.
func (l *line) create(t *testing.T, dir string, at int64) (p Point, said string, err error) {
	t.Helper()
	var log bytes.Buffer
	p, err = Create(t.Context(), dir, Source{Cluster: "abc", Open: l.open},
		Options{Now: time.Unix(at, 0), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	return p, log.String(), err
}

// whole checks that the only point is the content, and that nothing else is left.
func (l *line) whole(t *testing.T, dir string) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(dir, "000001.db")); err != nil || !bytes.Equal(got, l.content) {
		t.Errorf("%d bytes arrived, %d were sent, %v", len(got), len(l.content), err)
	}
	nothingElse(t, dir)
}

func TestACutTransferGoesOnWhereverItWasCut(t *testing.T) {
	t.Parallel()
	content := largeContent(t)
	size := int64(len(content))
	for cut := int64(1); cut < size; cut += 262_143 {
		l := &line{content: content, id: "x", cuts: []int64{cut, 0}}
		if cut < pieceBytes {
			l.cuts = l.cuts[:1] // it does not even try again
		}
		dir := t.TempDir()
		if _, _, err := l.create(t, dir, 1); !errors.Is(err, errWire) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		p, _, err := l.create(t, dir, 2)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		last, have := l.asked[len(l.asked)-1], cut/pieceBytes*pieceBytes
		if last.Bytes != have || have > 0 && (last.ID != "x" || p.Taken.Unix() != 1) {
			t.Errorf("cut at %d: %+v was asked for, taken %v", cut, last, p.Taken)
		}
		if twice := l.served - size; twice != cut-have {
			t.Errorf("cut at %d: %d bytes were transferred twice", cut, twice)
		}
		l.whole(t, dir)
	}
}

func TestATransferGoesOnAtOnceWhileSomethingComes(t *testing.T) {
	t.Parallel()
	l := &line{content: largeContent(t), id: "x", cuts: []int64{pieceBytes + 5, pieceBytes, pieceBytes + 100}}
	dir := t.TempDir()
	if _, said, err := l.create(t, dir, 1); err != nil || strings.Count(said, "going on with the transfer") != 3 {
		t.Fatalf("%v, %s", err, said)
	}
	l.whole(t, dir)
	if len(l.asked) != 4 || l.served-int64(len(l.content)) != 105 {
		t.Errorf("%+v was asked for, %d bytes served", l.asked, l.served)
	}
}

func TestWhatIsDamagedOfACutTransferIsDiscardedAndTold(t *testing.T) {
	t.Parallel()
	content := largeContent(t)
	change := func(name string, fn func(b []byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, fn(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 1
			return b
		}
	}
	head := func(h pieceHead) func([]byte) []byte {
		return func(b []byte) []byte {
			_, sums, _ := bytes.Cut(b, []byte("\n"))
			text, err := encodeHead(h)
			if err != nil {
				t.Error(err)
			}
			return append(text, sums...)
		}
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		kept   int64 // pieces
		said   string
	}{
		"a byte of the second piece":       {change(partName, flip(pieceBytes+77)), 1, "the checksum of the bytes from 1048576 on differs"},
		"a byte of the first piece":        {change(partName, flip(0)), 0, "the checksum of the bytes from 0 on differs"},
		"the last checksum":                {change(sumsName, flip(-2)), 2, "the checksum of the bytes from 2097152 on differs"},
		"half of the last checksum":        {change(sumsName, func(b []byte) []byte { return b[:len(b)-4] }), 2, ""},
		"the end of the pieces":            {change(partName, func(b []byte) []byte { return b[:2*pieceBytes+3] }), 2, "the checksum of the bytes from 2097152 on differs"},
		"all of the pieces":                {change(partName, func(b []byte) []byte { return nil }), 0, "the checksum of the bytes from 0 on differs"},
		"something behind the pieces":      {change(partName, func(b []byte) []byte { return append(b, "more"...) }), 3, ""},
		"what is known of them":            {change(sumsName, flip(3)), 0, "the beginning of incoming.sums is damaged"},
		"all that is known of them":        {change(sumsName, func(b []byte) []byte { return nil }), 0, ""},
		"the end of what is known of them": {change(sumsName, func(b []byte) []byte { return b[:10] }), 0, "the beginning of incoming.sums is damaged"},
		"the cluster":                      {change(sumsName, head(pieceHead{Format: 1, ID: "x", Cluster: "b"})), 0, "it is of cluster b, and this is abc"},
		"the format":                       {change(sumsName, head(pieceHead{Format: 2, ID: "x", Cluster: "abc"})), 0, "it has format 2"},
		"the source":                       {change(sumsName, head(pieceHead{Format: 1, Cluster: "abc"})), 0, "its source cannot go on with it"},
		"what the source has":              {change(sumsName, head(pieceHead{Format: 1, ID: "y", Cluster: "abc"})), 3, "the source does not have the content of the cut transfer any more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &line{content: content, id: "x", cuts: []int64{3*pieceBytes + 17, 0}}
			dir := t.TempDir()
			if _, _, err := l.create(t, dir, 1); err == nil {
				t.Fatal("it was not cut")
			}
			c.damage(t, dir)
			_, said, err := l.create(t, dir, 2)
			if err != nil {
				t.Fatal(err)
			}
			if last := l.asked[len(l.asked)-1]; last.Bytes != c.kept*pieceBytes {
				t.Errorf("%+v was asked for", last)
			}
			if told := strings.Contains(said, "level=WARN"); told != (c.said != "") || !strings.Contains(said, c.said) {
				t.Errorf("it said %s", said)
			}
			l.whole(t, dir)
		})
	}
}

// The checksum over all decides: pieces may each be whole and yet belong to two contents.
func TestWhatIsPutTogetherWronglyIsTransferredAnew(t *testing.T) {
	t.Parallel()
	content := largeContent(t)
	other := bytes.Clone(content)
	other[5] ^= 1
	l := &line{content: other, id: "x", cuts: []int64{2 * pieceBytes, 0}}
	dir := t.TempDir()
	if _, _, err := l.create(t, dir, 1); err == nil {
		t.Fatal("it was not cut")
	}
	l.content = content
	if _, said, err := l.create(t, dir, 2); err != nil || !strings.Contains(said, "put together of several pieces is damaged") {
		t.Fatalf("%v, %s", err, said)
	}
	l.whole(t, dir)
	l = &line{content: other, id: "x"}
	dir = t.TempDir()
	if _, _, err := l.create(t, dir, 1); err == nil {
		t.Error("a damaged content became a point")
	}
	if entries, err := Points(dir, nil); err != nil || len(entries) != 0 {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestATransferThatCannotGoOnBeginsAnew(t *testing.T) {
	t.Parallel()
	l := &line{content: largeContent(t), cuts: []int64{2*pieceBytes + 9}}
	dir := t.TempDir()
	if _, _, err := l.create(t, dir, 1); !errors.Is(err, errWire) {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, partName)); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes are left that nobody can use", info.Size())
	}
	if p, _, err := l.create(t, dir, 2); err != nil || p.Taken.Unix() != 2 || l.asked[1] != (Piece{}) {
		t.Errorf("%+v, %v, %+v", p, err, l.asked)
	}
	l.whole(t, dir)
}

func FuzzDecodePieceHead(f *testing.F) {
	text, err := encodeHead(pieceHead{Format: 1, ID: "x", Cluster: "abc", Taken: time.Unix(1, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(" \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := decodeHead(b)
		if !ok {
			return
		}
		again, err := encodeHead(h)
		if err != nil {
			return // a year that JSON does not write
		}
		if got, ok := decodeHead(again); !ok || !got.Taken.Equal(h.Taken) || got.ID != h.ID || got.Cluster != h.Cluster {
			t.Errorf("%+v became %+v", h, got)
		}
	})
}
