package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ErrInvalid is wrapped by every error that says: this is not a whole and
// undamaged stream of a version that this release knows.
var ErrInvalid = errors.New("snapshot: invalid stream")

// BlockBytes is the size at which a Reader closes a block: it reads so much of the state at a time. The record that crosses it may be
// as large as the request that wrote it, which --max-request-bytes bounds.
const BlockBytes = 256 << 10

const (
	magic   = "ASHLARS1"
	version = 1
	// blockBytesMax is above every record that gRPC can carry, readStep what memory is taken for one at a time.
	blockBytesMax = 1<<31 - 1
	readStep      = 1 << 20
	headerBytes   = len(magic) + 4
	frameBytes    = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendHeader(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(append(dst, magic...), version)
}

func checkHeader(b []byte) error {
	if string(b[:len(magic)]) != magic {
		return fmt.Errorf("%w: it does not begin with %s", ErrInvalid, magic)
	}
	if v := binary.BigEndian.Uint32(b[len(magic):]); v == 0 || v > version {
		return fmt.Errorf("%w: version %d, this release knows up to %d", ErrInvalid, v, version)
	}
	return nil
}

func appendFrame(dst []byte, payload []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(payload, castagnoli))
}

func appendEnd(dst []byte, records uint64) []byte {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], records)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, n[:]...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(n[:], castagnoli))
}

// travels says whether a state key belongs into a stream: runs and the identity
// are local to a member, and so is where large values lie.
func travels(key []byte) bool {
	switch key[0] {
	case storage.SpaceData, storage.SpaceHistory, storage.SpaceCounts, storage.SpaceMembers,
		storage.SpaceRemoved, storage.SpaceLeases, storage.SpaceAttachments, storage.SpaceAuth, storage.SpaceAlarms:
		return true
	case storage.SpaceMeta:
		return string(storage.PlainRest(key)) != "identity"
	default:
		return false
	}
}

// known says whether a key may stand in a stream.
func known(key []byte) bool { return storage.ValidKey(key) && travels(key) }

// nextRecord cuts the first record off a payload.
func nextRecord(p []byte) (key, value, rest []byte, err error) {
	key, p, err = nextBytes(p)
	if err != nil {
		return nil, nil, nil, err
	}
	value, p, err = nextBytes(p)
	return key, value, p, err
}

func nextBytes(p []byte) (b, rest []byte, err error) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, nil, fmt.Errorf("%w: a record is cut short", ErrInvalid)
	}
	return p[w : w+int(n)], p[w+int(n):], nil
}

// readFull reads exactly len(b) bytes; an early end is an invalid stream.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends early", ErrInvalid)
	}
	return err
}
