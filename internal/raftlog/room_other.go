//go:build !linux

package raftlog

// systemRoom is none: the newest segment grows as it is written.
func systemRoom() *room {
	return &room{
		step: roomStep, low: roomLow, warm: roomWarm, read: roomRead,
		extend: func(*segment, int64) error { return errNoRoom },
		cut:    func(*segment) error { return errNoRoom },
		shrink: func(*segment, int64) error { return errNoRoom },
		forget: func(*segment, int64, int64) {},
	}
}
