package raftlog

import (
	"errors"
	"time"

	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// room is how the newest segment is extended ahead of its last record: a write below the size of a file, into blocks that it has,
// changes nothing but data, so that its sync has less to do. What is ahead reads as zeros.
type room struct {
	step int64 // how far ahead
	low  int64 // what is left when more is asked for
	warm int64 // how much of the log, the newest, the system remembers
	read int64 // how much of what a start has read: of the newest some is to be applied, which reads it again
	// extend makes the file of a segment, which ends with its last record, longer by zeros that take space on the disk. After an error
	// there may be some all the same.
	extend func(s *segment, more int64) error
	// cut makes the file of a segment end with its last record.
	cut func(s *segment) error
	// shrink makes the file of a segment, which has no name any more, no longer than to. It does nothing to one that has a name.
	shrink func(s *segment, to int64) error
	// forget tells the system that a part of a segment, which is on the disk, need not be in its memory. It is a hint.
	forget func(s *segment, from, to int64)
}

const (
	roomStep = 1 << 20
	roomLow  = 16 << 10
	roomWarm = 16 << 20
	roomRead = 64 << 20
	// shrinkBytes is how much of a removed segment is given back at once.
	shrinkBytes = 2 << 20
	shrinkRest  = time.Millisecond
	// pageBytes is a multiple of what the system's memory of a file is divided into.
	pageBytes = 64 << 10
)

// errNoRoom is returned where files are not extended and cut.
var errNoRoom = errors.New("files of this filesystem are not extended ahead")

// extend gives the newest segment room ahead. Where there is none to be had, it goes on as it is written, and no more is asked for
// in this segment. REQUIRES: write is held.
func (l *Log) extend() {
	s := l.current
	if l.noSync || s.alone || s.ahead-s.end >= l.room.low {
		return
	}
	// The record that gets to segmentBytes may end behind it.
	to := min(s.end+l.room.step, l.segmentBytes+l.room.low)
	if err := l.room.extend(s, to-s.end); err != nil {
		s.alone = true
		if l.cutOff(s) { // a part of it may be there, and the space is wanted
			s.ahead = s.end
		}
		return
	}
	s.ahead = to
	l.cool(l.room.warm)
}

// cool lets the system forget what of the log is on the disk, but for the newest. Nobody reads it but who is behind by more than the tail,
// and a start; and its pages are good for what is written next. The system would take others for that, which are in no cache of a processor,
// and on a virtual machine often not there at all until they are touched. REQUIRES: write is held.
func (l *Log) cool(warm int64) {
	for i := len(l.segments) - 1; i >= 0; i-- {
		s := l.segments[i]
		if to := (s.synced - warm) / pageBytes * pageBytes; to > s.cold {
			l.room.forget(s, s.cold, to)
			s.cold = to
		}
		if warm = max(0, warm-s.synced); warm == 0 && s.cold > 0 && s.synced-s.cold < pageBytes {
			return // those before it are cold
		}
	}
}

// giveBack cuts off what a segment has ahead; a crash may bring it back. REQUIRES: write is held.
func (l *Log) giveBack(s *segment) {
	if s != nil && s.ahead > s.end && l.cutOff(s) {
		s.ahead = s.end
	}
}

// cutOff makes a segment end with its last record. What cannot be cut off takes space and does no harm.
func (l *Log) cutOff(s *segment) bool {
	err := l.room.cut(s)
	if err == nil {
		s.length.Store(s.end)
		return true
	}
	if !errors.Is(err, errNoRoom) {
		l.logger.Warn("what is behind the last record of a segment of the log could not be cut off", "file", s.path, "error", err)
	}
	return false
}

// empty gives back what a removed segment takes.
func (l *Log) empty(s *segment) {
	storage.GiveBack(s.length.Load(), shrinkBytes, func(to int64) error { return l.room.shrink(s, to) },
		func() { pacing.Rest(l.clock, nil, shrinkRest) })
}
