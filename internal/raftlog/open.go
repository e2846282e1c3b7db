package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.TailBytes == 0 {
		o.TailBytes = tailBytes
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytes
	}
	if o.room == nil {
		o.room = systemRoom()
	}
	if o.Storage.FS == nil {
		o.Storage.FS = vfs.Default
	}
	if o.Storage.Logger == nil {
		o.Storage.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Storage.Fatal == nil {
		o.Storage.Fatal = func(err error) { panic(fmt.Sprintf("raftlog: nobody was told to take a failure: %v", err)) }
	}
	return o
}

// Open opens the log in dir. Where there is none it will be, uninitialised. A log that an earlier release has kept in Pebble is
// taken over, or read as it is with ReadOnly.
//
// It returns an error that wraps storage.ErrLocked when another process has it, storage.ErrCorrupt when a file is damaged or
// missing, and storage.ErrNewerFormat when a newer release wrote it; then nothing of the log was changed.
func Open(dir string, o Options) (*Log, error) {
	o = o.withDefaults()
	lock, err := storage.LockLog(o.Storage.FS, dir, o.Storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	l := &Log{
		dir: dir, fs: o.Storage.FS, logger: o.Storage.Logger, clock: o.Clock, lock: lock,
		noSync: o.NoSync, readOnly: o.Storage.ReadOnly, segmentBytes: o.SegmentBytes, room: o.room,
		failure: failure{call: o.Storage.Fatal}, tail: tail{max: o.TailBytes, settled: math.MaxUint64, unsettledMax: max(o.TailBytes, unsettledBytes)},
	}
	if err := l.open(o.Storage); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	l.sealer = newSealer(func() error { return l.do(record{kind: kindSeal}, true) }, o.Clock, o.SealAfter)
	return l, nil
}

// open reads what is there. It runs before anyone else knows the log, so it takes no locks.
func (l *Log) open(o storage.Options) error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", l.dir, err)
	}
	numbers := segmentNumbers(names)
	if len(storage.PebbleLogFiles(names)) > 0 && !takenOver(numbers, names) {
		if l.readOnly {
			return l.readPebble(o)
		}
		if err := l.takeOver(o); err != nil {
			return fmt.Errorf("take over the raft log of an earlier release in %s: %w", l.dir, err)
		}
		numbers = []uint64{1}
	}
	if err := l.load(numbers); err != nil {
		return err
	}
	if l.readOnly {
		return nil
	}
	return l.tidy(numbers)
}

// takenOver says whether the segments are the log, and what is there of Pebble is left of one that was taken over. Before there is a guard
// an earlier release may have gone on with the log in Pebble, and nothing was appended to the only segment.
func takenOver(numbers []uint64, names []string) bool {
	n := len(numbers)
	return n > 0 && (n > 1 || numbers[0] > 1 || storage.LogGuarded(names))
}

// tidy makes durable what was read, and removes what is no part of the log.
func (l *Log) tidy(numbers []uint64) error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", l.dir, err)
	}
	if len(numbers) > 0 {
		if err := storage.GuardLog(l.fs, l.dir); err != nil {
			return err
		}
	}
	if err := storage.SyncDir(l.fs, l.dir); err != nil {
		return err
	}
	gone := storage.PebbleLogFiles(names)
	for _, name := range names {
		if number, tmp := strings.CutSuffix(name, tmpSuffix); tmp {
			if _, ok := parseSegmentName(number); ok {
				gone = append(gone, name)
			}
		}
	}
	for _, seq := range numbers {
		if seq < l.segments[0].seq {
			gone = append(gone, segmentName(seq))
		}
	}
	for _, name := range gone {
		if err := l.fs.Remove(l.fs.PathJoin(l.dir, name)); err != nil {
			return fmt.Errorf("remove what is no part of the log in %s: %w", l.dir, err)
		}
	}
	old, err := l.retire()
	if err != nil {
		return err
	}
	return l.remove(old)
}

// segmentNumbers returns the numbers of the segments, ascending.
func segmentNumbers(names []string) (numbers []uint64) {
	for _, name := range names {
		if seq, ok := parseSegmentName(name); ok {
			numbers = append(numbers, seq)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// load reads the segments from the newest down to the first gap.
func (l *Log) load(numbers []uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	from := len(numbers) - 1
	for from > 0 && numbers[from-1] == numbers[from]-1 {
		from--
	}
	for _, seq := range numbers[from:] {
		s, err := openSegment(l.fs, l.dir, seq, !l.readOnly)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
		size, err := s.size()
		if err != nil {
			return err
		}
		s.length.Store(size)
	}
	var r replay
	end, err := r.all(l.segments, func() { l.cool(l.room.read) })
	if err == nil {
		err = r.done(l.dir, l.segments[0])
	}
	if err != nil {
		return err
	}
	l.state, l.index = r.state, r.index
	l.current = l.segments[len(l.segments)-1]
	l.full = end.torn
	if !l.readOnly {
		if end.zeros {
			// Nothing was written there, or nothing of it is left: the segment goes on at its end, as after a clean close.
			l.full = !l.cutOff(l.current)
		}
		if err := l.current.rewrite(end.proven); err != nil {
			return err
		}
	}
	return l.keepLast()
}

// all reads the segments, and calls between after each that is not the newest.
func (r *replay) all(segments []*segment, between func()) (end newest, err error) {
	for i, s := range segments {
		place := int64(-1)
		if i+1 < len(segments) {
			if place, err = placeIn(segments[i+1]); err != nil {
				return end, err
			}
		}
		if end, err = r.segment(s, place); err != nil {
			return end, err
		}
		if place >= 0 {
			s.synced = s.end // before the next one was made
			between()
		}
	}
	return end, nil
}

// placeIn returns where the segment before s ended when s was born.
func placeIn(s *segment) (int64, error) {
	size, err := s.size()
	if err != nil {
		return 0, err
	}
	in := newReader(s, 0, size, headerBytes)
	h, err := in.header()
	if err != nil {
		return 0, explain(s, 0, err)
	}
	rec, sum, err := in.fields(h)
	switch {
	case err != nil:
	case sum != h.body || rec.kind != kindBegin || rec.place > 1<<62:
		err = errRecord
	default:
		err = rec.newer
	}
	if err != nil {
		return 0, explain(s, 0, err)
	}
	return int64(rec.place), nil
}

// rewrite writes the records from an offset on once more, as they are, and syncs the file: they may be in memory alone, and if a sync has
// failed the system does not know any more that they are.
func (s *segment) rewrite(from int64) error {
	buf := make([]byte, min(replayBytes, s.end-from))
	for at := from; at < s.end; {
		n := int(min(int64(len(buf)), s.end-at))
		if _, err := s.file.ReadAt(buf[:n], at); err != nil {
			return readError(s, at, err)
		}
		if err := writeAt(s, buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	s.synced = s.end
	return nil
}
