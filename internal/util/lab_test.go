package util

import (
	"hash/crc32"
)

// crcOf is the checksum of a text file of ours.
func crcOf(text string) uint32 {
	return crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
}
