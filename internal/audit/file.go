package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// file is the file that lines are appended to, and those before it. It belongs to one goroutine.
type file struct {
	path string
	max  int64 // bytes of one file
	kept int   // full files beside the one written to

	f    *os.File
	size int64
}

// openFile opens the file, or makes it: nobody but its owner may read it.
func openFile(path string, max int64, kept int) (*file, error) {
	f := &file{path: path, max: max, kept: kept}
	return f, f.open()
}

func (f *file) open() error {
	o, err := os.OpenFile(f.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	info, err := o.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", f.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open the audit log: %w", err), o.Close())
	}
	f.f, f.size = o, info.Size()
	if err := f.closeTorn(); err != nil {
		return errors.Join(fmt.Errorf("end the last line of the audit log: %w", err), o.Close())
	}
	return nil
}

// closeTorn ends a line that was never ended.
func (f *file) closeTorn() error {
	if f.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.f.ReadAt(last[:], f.size-1); err != nil || last[0] == '\n' {
		return err
	}
	n, err := f.f.Write([]byte{'\n'})
	f.size += int64(n)
	return err
}

// append writes lines and returns how many bytes of them are in the files for good: those of whole lines. While no new file can be opened,
// since no file descriptor is left for example, the full one takes as much again.
func (f *file) append(lines []byte) (written int, err error) {
	for written < len(lines) {
		part := f.fitting(lines[written:], f.max)
		if len(part) == 0 {
			err := f.rotate()
			if err == nil {
				continue
			}
			if part = f.fitting(lines[written:], 2*f.max); len(part) == 0 {
				return written, err
			}
		}
		n, err := f.f.Write(part)
		if err != nil {
			whole := bytes.LastIndexByte(part[:n], '\n') + 1
			f.forget(f.size + int64(whole))
			return written + whole, fmt.Errorf("write the audit log: %w", err)
		}
		f.size += int64(n)
		written += n
	}
	return written, nil
}

// fitting returns the lines that fit into the file of at most max bytes; none when it is full. An empty file takes one line of any size.
func (f *file) fitting(lines []byte, max int64) []byte {
	room := max - f.size
	if int64(len(lines)) <= room {
		return lines
	}
	if room > 0 {
		if end := bytes.LastIndexByte(lines[:room], '\n'); end >= 0 {
			return lines[:end+1]
		}
	}
	if f.size > 0 {
		return nil
	}
	return lines[:bytes.IndexByte(lines, '\n')+1]
}

// forget takes a half-written line back. Where that fails, too, the line break before the next one does.
func (f *file) forget(size int64) {
	f.size = size
	if f.f.Truncate(size) == nil {
		return
	}
	if end, err := f.f.Seek(0, io.SeekEnd); err == nil {
		f.size = end
		_ = f.closeTorn() // the disk is failing: the caller reports the first error
	}
}

// rotate begins a new file and moves the others one on; the oldest one goes.
func (f *file) rotate() error {
	if err := f.move(); err != nil {
		return fmt.Errorf("rotate the audit log: %w", err)
	}
	old := f.f
	if err := f.open(); err != nil {
		return err // the old one is written to for as long as there is no new one
	}
	return old.Close()
}

// move makes way for a new file. There is nothing to move when that was done before and no new one could be opened.
func (f *file) move() error {
	if _, err := os.Lstat(f.path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if f.kept == 0 {
		return os.Remove(f.path)
	}
	for i := f.kept - 1; i >= 0; i-- {
		err := os.Rename(f.numbered(i), f.numbered(i+1))
		if err != nil && !(i > 0 && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// numbered is the name of a file: 0 is that which is written to.
func (f *file) numbered(i int) string {
	if i == 0 {
		return f.path
	}
	return fmt.Sprintf("%s.%d", f.path, i)
}

func (f *file) close() error { return f.f.Close() }
