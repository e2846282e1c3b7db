package storage

import "encoding/binary"

// Every batch of a log in Pebble begins with a witness: a record for the write-ahead log alone
// that says up to which sequence number the log was synced when the batch was made.
// When a record is found damaged at the next open, the witness of any later one in the
// file tells whether it had been acknowledged (checkWALs).
//
// A batch in Pebble's log: sequence number (8 bytes, little-endian), count (4), then
// its operations; the witness is the first, kind, length, magic, sequence number (8).
const (
	batchHeader    = 12
	batchKindLog   = 3
	witnessMagic   = "ASHW"
	witnessPayload = len(witnessMagic) + 8
	witnessEnd     = batchHeader + 2 + witnessPayload
)

// readWitness reads the head of a batch in the write-ahead log: its first sequence
// number, the one after it, and the one up to which the log had been synced. ok is false
// for a batch without a witness.
func readWitness(b []byte) (first, next, synced uint64, ok bool) {
	if len(b) < witnessEnd || b[batchHeader] != batchKindLog || b[batchHeader+1] != byte(witnessPayload) ||
		string(b[batchHeader+2:batchHeader+2+len(witnessMagic)]) != witnessMagic {
		return 0, 0, 0, false
	}
	first = binary.LittleEndian.Uint64(b)
	next = first + uint64(binary.LittleEndian.Uint32(b[8:]))
	return first, next, binary.LittleEndian.Uint64(b[witnessEnd-8:]), true
}
