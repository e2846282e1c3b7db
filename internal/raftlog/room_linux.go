package raftlog

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// systemRoom is the room of files on a disk. A filesystem that knows no fallocate, or has no space, says so.
func systemRoom() *room {
	return &room{
		step: roomStep, low: roomLow, warm: roomWarm, read: roomRead,
		extend: func(s *segment, more int64) error {
			return onFile(s, func(fd int) error { return syscall.Fallocate(fd, 0, s.end, more) })
		},
		cut: func(s *segment) error {
			return onFile(s, func(fd int) error { return syscall.Ftruncate(fd, s.end) })
		},
		shrink: func(s *segment, to int64) error { return storage.Shrink(s.file, to) },
		forget: func(s *segment, from, to int64) {
			_ = onFile(s, func(fd int) error { return unix.Fadvise(fd, from, to-from, unix.FADV_DONTNEED) }) // then it remembers
		},
	}
}

// interruptsMax bounds how often a call is begun again that a signal has interrupted.
const interruptsMax = 100

func onFile(s *segment, call func(fd int) error) (err error) {
	fd := s.file.Fd()
	if fd == vfs.InvalidFd {
		return errNoRoom
	}
	for range interruptsMax {
		if err = call(int(fd)); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("change the size of %s: %w", s.path, err)
	}
	return nil
}
