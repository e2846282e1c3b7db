package ctl

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf8"
)

// exportFormat names the lines; another number is another format.
const exportFormat = "ashlar-export/1"

// exportLineMax is the longest line that is read: a value of the largest size that any limit of requests allows, in base64.
const exportLineMax = 64 << 20

// exportHeader is the first line.
type exportHeader struct {
	Format   string `json:"format"`
	Cluster  string `json:"cluster,omitempty"` // hexadecimal
	Revision int64  `json:"revision"`
	Prefix   []byte `json:"prefix,omitempty"` // base64
	Leases   bool   `json:"leases,omitempty"` // are told
}

// exportLease is a lease that the keys after it hang on.
type exportLease struct {
	Lease   string `json:"lease"` // hexadecimal
	Granted int64  `json:"granted_ttl"`
}

// exportKey is a key. What is no UTF-8 is in base64, under the names key64 and value64.
type exportKey struct {
	Key      *string `json:"key,omitempty"`
	Key64    []byte  `json:"key64,omitempty"`
	Value    *string `json:"value,omitempty"`
	Value64  []byte  `json:"value64,omitempty"`
	Created  int64   `json:"create_revision,omitempty"`
	Modified int64   `json:"mod_revision,omitempty"`
	Version  int64   `json:"version,omitempty"`
	Lease    string  `json:"lease,omitempty"` // hexadecimal
}

// exportEnd is the last line; without it a file is not whole.
type exportEnd struct {
	End  bool  `json:"end"`
	Keys int64 `json:"keys"`
}

func (l *exportKey) setKey(b []byte) { l.Key, l.Key64 = textOrBytes(b) }

func (l *exportKey) setValue(b []byte) { l.Value, l.Value64 = textOrBytes(b) }

// textOrBytes returns b in the form it survives JSON in.
func textOrBytes(b []byte) (*string, []byte) {
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

// exportLine is any line but the header.
type exportLine struct {
	Key     *string `json:"key"`
	Key64   *string `json:"key64"`
	Value   *string `json:"value"`
	Value64 *string `json:"value64"`
	Lease   string  `json:"lease"`
	Granted int64   `json:"granted_ttl"`
	End     bool    `json:"end"`
	Keys    int64   `json:"keys"`
}

func (l *exportLine) isKey() bool { return l.Key != nil || l.Key64 != nil }

func (l *exportLine) key() ([]byte, error) { return eitherForm("key", l.Key, l.Key64) }

func (l *exportLine) value() ([]byte, error) { return eitherForm("value", l.Value, l.Value64) }

func eitherForm(name string, text, coded *string) ([]byte, error) {
	switch {
	case text != nil && coded != nil:
		return nil, fmt.Errorf("both %s and %s64 are given", name, name)
	case text != nil:
		return []byte(*text), nil
	case coded != nil:
		b, err := base64.StdEncoding.DecodeString(*coded)
		if err != nil {
			return nil, fmt.Errorf("%s64: %w", name, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("no %s", name)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// exportReader reads lines, one in memory at a time.
type exportReader struct {
	in     *bufio.Reader
	offset int64  // of what follows the last whole line
	sum    uint32 // CRC-32C of what is before that
	line   int64
}

func newExportReader(r io.Reader) *exportReader {
	return &exportReader{in: bufio.NewReaderSize(r, 1<<20)}
}

// whole returns the next line; io.EOF at the end, io.ErrUnexpectedEOF for a line without an end.
func (r *exportReader) whole() ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		if len(line)+len(part) > exportLineMax {
			return nil, fmt.Errorf("line %d is longer than %d bytes", r.line+1, exportLineMax)
		}
		switch {
		case err == nil && line == nil:
			line = part
		default:
			line = append(line, part...)
		}
		switch {
		case err == nil:
			r.offset += int64(len(line))
			r.sum = crc32.Update(r.sum, castagnoli, line)
			r.line++
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

func (r *exportReader) header() (exportHeader, error) {
	var h exportHeader
	line, err := r.whole()
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(line, &h); err != nil || !strings.HasPrefix(h.Format, "ashlar-export/") {
		return h, errors.New("line 1 is not the beginning of an export")
	}
	if h.Format != exportFormat {
		return h, fmt.Errorf("the export has the format %q, which is not known here", h.Format)
	}
	return h, nil
}

// next returns the next line that is not empty.
func (r *exportReader) next() (*exportLine, error) {
	for {
		line, err := r.whole()
		if err != nil {
			return nil, err
		}
		if len(strings.TrimSpace(string(line))) == 0 {
			continue
		}
		l := &exportLine{}
		if err := json.Unmarshal(line, l); err != nil {
			return nil, fmt.Errorf("line %d: %w", r.line, err)
		}
		return l, nil
	}
}
