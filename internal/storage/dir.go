package storage

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names below the data directory (docs/format/data-dir.md). All functions here take the data directory as the
// user gave it.
const (
	rootName = "ashlar"
	// LockName is the file in Root that whoever uses the directory has locked. It stays.
	LockName     = "LOCK"
	identityName = "IDENTITY"
	logName      = "log"
	statePrefix  = "state-"
	dirPerm      = 0o700
	// identityFileMax bounds what is read of an IDENTITY file.
	identityFileMax = 4096
)

// Root returns the directory that holds everything of ours.
func Root(dataDir string) string { return filepath.Join(dataDir, rootName) }

// StateDir returns the directory of a generation of the state.
func StateDir(dataDir string, gen uint64) string {
	return filepath.Join(Root(dataDir), fmt.Sprintf("%s%016x", statePrefix, gen))
}

// LogDir returns the directory of the log: walDir itself unless that is empty.
func LogDir(dataDir, walDir string) string {
	if walDir != "" {
		return walDir
	}
	return filepath.Join(Root(dataDir), logName)
}

// LockDir creates the root directory and takes its lock; closing the result gives it back. The error wraps ErrLocked
// and names the directory when another process holds it.
func LockDir(fs FS, dataDir string) (io.Closer, error) {
	root := Root(dataDir)
	if err := MakeDirs(fs, root); err != nil {
		return nil, err
	}
	l, err := fs.Lock(fs.PathJoin(root, LockName))
	if err != nil {
		return nil, lockError(dataDir, err)
	}
	return l, nil
}

// databaseLock is Pebble's lock of a database directory.
type databaseLock struct {
	*pebble.Lock
	file io.Closer // what the lock holds
}

// lockDatabase takes the lock of a database directory.
func lockDatabase(fs FS, dir string) (databaseLock, error) {
	keeper := &lockKeeper{FS: fs}
	l, err := pebble.LockDirectory(dir, keeper)
	if err != nil {
		return databaseLock{}, lockError(dir, err)
	}
	return databaseLock{l, keeper.file}, nil
}

// Close gives the lock up.
func (l databaseLock) Close() error {
	if l.Lock == nil {
		return l.file.Close()
	}
	return l.Lock.Close()
}

// abandon gives the lock up although a Pebble that will never run again has its part in it.
func (l databaseLock) abandon() error { return l.file.Close() }

// lockKeeper remembers what Lock returned.
type lockKeeper struct {
	FS
	file io.Closer
}

// Lock implements vfs.FS.
func (k *lockKeeper) Lock(name string) (c io.Closer, err error) {
	c, err = k.FS.Lock(name)
	k.file = c
	return c, err
}

// lockError tells a lock that is held from a file that can not be opened. Filesystems report the first with one of
// two error numbers and without a path, or, inside one process, with a text alone.
func lockError(dir string, err error) error {
	var path *fs.PathError
	held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "lock held by current process")
	if held && !errors.As(err, &path) {
		return fmt.Errorf("%w: %s (%w)", ErrLocked, dir, err)
	}
	return fmt.Errorf("lock the directory %s: %w", dir, err)
}

// MakeDirs creates dir and what is missing above it, durably: each before the one below it is made. The last one that is there may be
// from a start that broke off before it was durable.
func MakeDirs(fs FS, dir string) error {
	var missing []string
	there := dir
	for {
		if _, err := fs.Stat(there); err == nil {
			break
		}
		missing = append(missing, there)
		parent := fs.PathDir(there)
		if parent == there || parent == "." || parent == "" {
			there = ""
			break
		}
		there = parent
	}
	if there != "" {
		if err := SyncDir(fs, fs.PathDir(there)); err != nil && !mayNotSync(err) {
			return err
		}
	}
	for _, d := range slices.Backward(missing) {
		if err := fs.MkdirAll(d, dirPerm); err != nil {
			return fmt.Errorf("create the directory %s: %w", d, err)
		}
		if err := SyncDir(fs, fs.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// mayNotSync says whether err is about a directory that whoever runs this may not open, or that cannot be synced at all: above a directory
// that somebody else has made.
func mayNotSync(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, syscall.EROFS)
}

// SyncDir makes durable which files are in dir.
func SyncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open the directory %s: %w", dir, err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync the directory %s: %w", dir, err)
	}
	return nil
}

// ListGenerations returns the generations of the state that have a directory, ascending. Other names that begin
// like one are left out. No root directory is no generation.
func ListGenerations(fs FS, dataDir string) ([]uint64, error) {
	names, err := fs.List(Root(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", Root(dataDir), err)
	}
	var gens []uint64
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, statePrefix)
		if !ok || len(digits) != 16 {
			continue
		}
		if gen, err := strconv.ParseUint(digits, 16, 64); err == nil {
			gens = append(gens, gen)
		}
	}
	slices.Sort(gens)
	return gens, nil
}

// RemoveGeneration removes the directory of a generation, if there is one. A crash leaves a part of it.
func RemoveGeneration(fs FS, dataDir string, gen uint64) error {
	dir := StateDir(dataDir, gen)
	if err := fs.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return SyncDir(fs, Root(dataDir))
}

// ClearRoot removes everything below the root but its lock: what a bootstrap that broke off has left. REQUIRES:
// the lock is held, and neither log nor IDENTITY file carry an identity.
func ClearRoot(fs FS, dataDir string) error {
	root := Root(dataDir)
	names, err := fs.List(root)
	if err != nil {
		return fmt.Errorf("list %s: %w", root, err)
	}
	for _, name := range names {
		if name == LockName {
			continue
		}
		if err := fs.RemoveAll(fs.PathJoin(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what a bootstrap left in %s: %w", root, err)
		}
	}
	return SyncDir(fs, root)
}

// Exists tells whether there is a file or directory of that name. Below a file there is none.
func Exists(fs FS, name string) (bool, error) {
	_, err := fs.Stat(name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return true, nil
}

// WriteIdentityFile writes the IDENTITY file durably, all or nothing.
func WriteIdentityFile(fs FS, dataDir string, id Identity) error {
	root := Root(dataDir)
	name := fs.PathJoin(root, identityName)
	if err := writeFile(fs, name+".tmp", identityText(id)); err != nil {
		return err
	}
	if err := fs.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("rename %s.tmp: %w", name, err)
	}
	return SyncDir(fs, root)
}

func writeFile(fs FS, name string, b []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// ReadIdentityFile reads the IDENTITY file; found is false when there is none. The error wraps ErrCorrupt when the
// file is damaged and ErrNewerFormat when a newer release wrote it.
func ReadIdentityFile(fs FS, dataDir string) (id Identity, found bool, err error) {
	name := fs.PathJoin(Root(dataDir), identityName)
	f, err := fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("open %s: %w", name, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, identityFileMax+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("read %s: %w", name, err)
	}
	id, err = parseIdentity(text)
	if errors.Is(err, ErrNewerFormat) {
		return Identity{}, false, fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		return Identity{}, false, Corruptf(name, "%w", err)
	}
	return id, true, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func identityText(id Identity) []byte {
	text := fmt.Appendf(nil, "format=%d\ncluster=%016x\nmember=%016x\nstore=%x\n", id.Format, id.ClusterID, id.MemberID, id.StoreID)
	return fmt.Appendf(text, "crc=%08x\n", crc32.Checksum(text, castagnoli))
}

func parseIdentity(text []byte) (id Identity, err error) {
	// The checksum first: after it holds, a strange line is one of a newer release. The last line is its
	// own even there.
	at := bytes.LastIndex(text, []byte("crc="))
	if at < 0 || string(text[at:]) != fmt.Sprintf("crc=%08x\n", crc32.Checksum(text[:at], castagnoli)) {
		return id, errors.New("its checksum does not match")
	}
	var store string
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if _, err := fmt.Sscanf(string(first), "format=%d", &id.Format); err != nil || id.Format == 0 {
		return id, errors.New("it has no format version")
	}
	if id.Format > FormatVersion {
		return id, fmt.Errorf("%w: format version %d, known up to %d", ErrNewerFormat, id.Format, FormatVersion)
	}
	_, err = fmt.Sscanf(string(text[:at]), "format=%d\ncluster=%x\nmember=%x\nstore=%s\n", &id.Format, &id.ClusterID, &id.MemberID, &store)
	if err != nil {
		return id, fmt.Errorf("its lines are not as expected: %w", err)
	}
	b, err := hex.DecodeString(store)
	if err != nil || len(b) != len(id.StoreID) {
		return id, errors.New("its store id is not 16 bytes in hexadecimal")
	}
	copy(id.StoreID[:], b)
	return id, nil
}
