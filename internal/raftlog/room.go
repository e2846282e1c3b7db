package raftlog

import "errors"

// room is how the newest segment is extended ahead of its last record: a write below the size of a file, into blocks that it has,
// changes nothing but data, so that its sync has less to do. What is ahead reads as zeros.
type room struct {
	step int64 // how far ahead
	low  int64 // what is left when more is asked for
	// extend makes the file of a segment, which ends with its last record, longer by zeros that take space on the disk. After an error
	// there may be some all the same.
	extend func(s *segment, more int64) error
	// cut makes the file of a segment end with its last record.
	cut func(s *segment) error
}

const (
	roomStep = 1 << 20
	roomLow  = 16 << 10
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
