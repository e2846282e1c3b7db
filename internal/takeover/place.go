package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// The names in a data directory (docs/format/data-dir.md).
const (
	memberName = "member"
	takingName = "member.etcd-taking-over"
	takenName  = "member.etcd-taken-over"
	// takenWALName is in a directory of the log that is not in the data directory.
	takenWALName = "etcd-taken-over"
)

// guardText is what the guard says to who looks.
const guardText = `The member of etcd that was here has been taken over by Ashlar.

etcd must not be started here again: it would be a second member with the identity of the first.
This file keeps it from that. Leave it here.

etcd's files are in member.etcd-taken-over, untouched. Nothing reads them any more; remove that directory when you
do not want to keep it.
`

const guardPerm = 0o400

// Place is where etcd may have left a member: the directories as etcd's --data-dir and --wal-dir name them.
type Place struct{ DataDir, WALDir string }

// Found says what is in a place.
type Found int

// What can be in a place.
const (
	// Nothing of etcd's is there.
	Nothing Found = iota
	// Member is a member that etcd can still run.
	Member
	// Claimed is one that etcd cannot run any more, and that is not taken over yet.
	Claimed
	// Taken is what a take-over has left.
	Taken
	// Restored is the copy of a member in etcd's form that a restore leaves beside the member.
	Restored
)

// Check refuses a directory of the log inside of etcd's, where ours would come to be in the middle of etcd's files.
func (p Place) Check() error {
	if p.WALDir == "" {
		return nil
	}
	inside, err := filepath.Rel(p.in(memberName), p.WALDir)
	if err != nil || inside == ".." || strings.HasPrefix(inside, ".."+string(filepath.Separator)) {
		return nil
	}
	return refusef("--wal-dir is inside of %s: leave it away when that is where etcd's log is", p.in(memberName))
}

// Look tells what is in the place. It changes nothing.
func (p Place) Look() (Found, error) {
	member, err := kindOf(p.in(memberName))
	if err != nil {
		return Nothing, err
	}
	taking, err := kindOf(p.in(takingName))
	if err != nil {
		return Nothing, err
	}
	taken, err := kindOf(p.in(takenName))
	if err != nil {
		return Nothing, err
	}
	inside := Nothing
	if member == directory {
		if inside, err = p.lookInside(); err != nil || inside == Member {
			if err == nil && taking == directory {
				err = refusef("etcd was started in %s while it was taken over: both %s and %s hold a member", p.DataDir, memberName, takingName)
			}
			return inside, err
		}
	}
	switch {
	case taking == directory:
		return Claimed, nil
	case taken != absent || member == file:
		return Taken, nil
	case inside == Restored:
		return Restored, nil
	}
	return Nothing, p.checkNoStrayLog()
}

// lookInside tells whether the directory member/ is that of an etcd member that was founded, or a copy that a restore left.
func (p Place) lookInside() (Found, error) {
	found, err := etcdfile.HasWAL(p.walDir(memberName))
	if err != nil {
		return Nothing, fmt.Errorf("look for etcd's log: %w", err)
	}
	if found {
		return Member, nil
	}
	database := filepath.Join(p.in(memberName), "snap", "db")
	switch k, err := kindOf(database); {
	case err != nil:
		return Nothing, err
	case k == file:
		if guard, err := kindOf(filepath.Join(p.walDir(memberName), storage.RestoredGuard)); err != nil || guard == file {
			return Restored, err
		}
		return Nothing, refusef("there is a database, %s, but no log in %s: name its directory by --wal-dir, or remove %s if etcd "+
			"never ran there", database, p.walDir(memberName), p.in(memberName))
	}
	return Nothing, nil
}

// checkNothingTaken refuses a member beside what an earlier take-over has left: that has the names that etcd's files are to get at last.
func (p Place) checkNothingTaken() error {
	left := []string{p.in(takenName)}
	if p.WALDir != "" {
		left = append(left, filepath.Join(p.WALDir, takenWALName))
	}
	for _, path := range left {
		switch k, err := kindOf(path); {
		case err != nil:
			return err
		case k != absent:
			return refusef("%s is left of an earlier take-over, and nothing reads it: remove it, or give it another name", path)
		}
	}
	return nil
}

// checkNoStrayLog refuses a log of etcd without its database.
func (p Place) checkNoStrayLog() error {
	if p.WALDir == "" {
		return nil
	}
	found, err := etcdfile.HasWAL(p.WALDir)
	if err == nil && found {
		err = refusef("there is a log of etcd in %s, but no database of etcd in %s", p.WALDir, p.DataDir)
	}
	return err
}

func (p Place) in(name string) string { return filepath.Join(p.DataDir, name) }

// walDir returns where etcd's log is, with etcd's directory under a name.
func (p Place) walDir(name string) string {
	if p.WALDir != "" {
		return p.WALDir
	}
	return filepath.Join(p.in(name), "wal")
}

type kind int

const (
	absent kind = iota
	file
	directory
)

func kindOf(path string) (kind, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case err != nil:
		return absent, fmt.Errorf("look for etcd's files: %w", err)
	case info.IsDir():
		return directory, nil
	}
	return file, nil
}

// claim puts the guard into the place of etcd's directory, durably. It may be repeated.
func (p Place) claim() error {
	member, err := kindOf(p.in(memberName))
	if err != nil {
		return err
	}
	if member == directory {
		if err := os.Remove(p.in(takingName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the guard of a take-over that broke off: %w", err)
		}
		if err := swap(p.in(memberName), p.in(takingName)); err != nil {
			return fmt.Errorf("take etcd's directory out of its place: %w", err)
		}
	}
	if err := writeGuard(p.in(memberName)); err != nil {
		return err
	}
	return syncDir(p.DataDir)
}

// Finish gives etcd's files their last names, after ours have become the member. It may be repeated.
func (p Place) Finish() error {
	if p.WALDir != "" {
		if err := p.moveWAL(); err != nil {
			return err
		}
	}
	if err := os.Rename(p.in(takingName), p.in(takenName)); err != nil {
		// Releases that did not look for it claimed a member beside what an earlier take-over had left.
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s is left of an earlier take-over, and nothing reads it: remove it, or give it another name: %w", p.in(takenName), err)
		}
		return fmt.Errorf("give etcd's directory its last name: %w", err)
	}
	return syncDir(p.DataDir)
}

// moveWAL moves etcd's files out of the directory that our log is in.
func (p Place) moveWAL() error {
	to := filepath.Join(p.WALDir, takenWALName)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make a directory for etcd's log: %w", err)
	}
	files, err := os.ReadDir(p.WALDir)
	if err != nil {
		return fmt.Errorf("look for etcd's log: %w", err)
	}
	for _, f := range files {
		if filepath.Ext(f.Name()) != ".wal" {
			continue
		}
		if err := os.Rename(filepath.Join(p.WALDir, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return fmt.Errorf("move etcd's log: %w", err)
		}
	}
	return errors.Join(syncDir(to), syncDir(p.WALDir))
}

// writeGuard writes the guard durably unless it is there.
func writeGuard(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, guardPerm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString(guardText)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("write the guard against etcd: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync a directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync the directory %s: %w", path, err)
	}
	return nil
}
