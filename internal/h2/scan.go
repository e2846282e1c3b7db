package h2

// scan is what is known of a header block without decoding it.
type scan int

const (
	// scanIndexed: nothing but references to the tables. It means the same for as long as the tables stay.
	scanIndexed scan = iota
	// scanConstant: literals too, but none that changes the dynamic table.
	scanConstant
	// scanChanging: it changes the table, or may, or is malformed.
	scanChanging
)

// scanBlock looks through the representations of a header block, RFC 7541 section 6.
func scanBlock(b []byte) scan {
	found := scanIndexed
	for len(b) > 0 {
		first := b[0]
		if first&0x80 != 0 {
			_, rest, ok := scanNumber(b, 7)
			if !ok {
				return scanChanging
			}
			b = rest
			continue
		}
		if first&0xe0 != 0 { // incremental indexing, or a table size
			return scanChanging
		}
		found = scanConstant
		name, rest, ok := scanNumber(b, 4)
		if ok && name == 0 {
			rest, ok = scanString(rest)
		}
		if ok {
			rest, ok = scanString(rest)
		}
		if !ok {
			return scanChanging
		}
		b = rest
	}
	return found
}

// scanNumber reads an integer with a prefix of so many bits, RFC 7541 section 5.1.
func scanNumber(b []byte, prefix uint) (n uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	limit := uint64(1)<<prefix - 1
	n = uint64(b[0]) & limit
	if n < limit {
		return n, b[1:], true
	}
	shift := uint(0)
	for i := 1; i < len(b) && shift < 56; i++ {
		n += uint64(b[i]&0x7f) << shift
		if b[i]&0x80 == 0 {
			return n, b[i+1:], true
		}
		shift += 7
	}
	return 0, nil, false
}

func scanString(b []byte) (rest []byte, ok bool) {
	n, rest, ok := scanNumber(b, 7)
	if !ok || n > uint64(len(rest)) {
		return nil, false
	}
	return rest[n:], true
}
