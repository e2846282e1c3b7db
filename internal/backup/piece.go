package backup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

const (
	partName = "incoming.part"
	sumsName = "incoming.sums"
	// pieceBytes is how much of a transfer has a checksum.
	pieceBytes = 1 << 20
	// sumBytes is the length of a checksum's line: CRC-32C in hexadecimal.
	sumBytes = 8 + 1
)

// pieceHead is what is known of a transfer under way.
type pieceHead struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`
	Cluster string    `json:"cluster"`
	Taken   time.Time `json:"taken"`
}

// piece is what has come of a transfer: the bytes in one file, what is known of them in the other (docs/format/backup.md).
type piece struct {
	part, sums *os.File
	head       pieceHead // of no id when nothing has come that can be gone on with
	bytes      int64     // that have a checksum
	log        *slog.Logger
}

// openPiece opens what a cut transfer has left, as far as its checksums are right. What is damaged, or of another cluster, is
// told and discarded.
func (b *run) openPiece(cluster string) (p *piece, err error) {
	p = &piece{log: b.o.Logger}
	if p.part, err = os.OpenFile(b.path(partName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if p.sums, err = os.OpenFile(b.path(sumsName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, errors.Join(err, p.part.Close())
	}
	why, err := p.read(cluster)
	if err == nil && why != "" {
		p.log.Warn("discarding what a cut transfer left", "why", why, "file", b.path(partName), "kept", progress.Bytes(p.bytes))
	}
	if err == nil && p.bytes > 0 {
		p.log.Info("going on with a transfer that was cut", "have", progress.Bytes(p.bytes), "taken", p.head.Taken)
	} else if err == nil {
		err = p.discard()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("go on with %s: %w", b.path(partName), err), p.close())
	}
	return p, nil
}

// read reads head and checksums and compares these. It says why something is not usable.
func (p *piece) read(cluster string) (why string, err error) {
	in := bufio.NewReader(p.sums)
	text, err := in.ReadBytes('\n')
	if len(text) == 0 && errors.Is(err, io.EOF) {
		return "", nil // there was no transfer
	}
	head, ok := decodeHead(text)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	case !ok:
		return "the beginning of " + sumsName + " is damaged", nil
	case head.Format != format:
		return fmt.Sprintf("it has format %d, and this release knows %d", head.Format, format), nil
	case head.Cluster != cluster:
		return fmt.Sprintf("it is of cluster %s, and this is %s", head.Cluster, cluster), nil
	case head.ID == "":
		return "its source cannot go on with it", nil
	}
	p.head = head
	chunk := make([]byte, pieceBytes)
	for {
		line := make([]byte, sumBytes)
		if _, err := io.ReadFull(in, line); err != nil { // also half a line, which a crash leaves
			break
		}
		n, err := io.ReadFull(p.part, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", err
		}
		if n < pieceBytes || !bytes.Equal(line, sumLine(chunk)) {
			why = fmt.Sprintf("the checksum of the bytes from %d on differs", p.bytes)
			break
		}
		p.bytes += pieceBytes
	}
	return why, p.cut(int64(len(text)) + p.bytes/pieceBytes*sumBytes)
}

// cut cuts off what stands behind the bytes and their checksums, which end at the offset.
func (p *piece) cut(sums int64) error {
	for f, size := range map[*os.File]int64{p.part: p.bytes, p.sums: sums} {
		if err := f.Truncate(size); err != nil {
			return err
		}
		if _, err := f.Seek(size, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// discard forgets everything.
func (p *piece) discard() error {
	p.head, p.bytes = pieceHead{}, 0
	return p.cut(0)
}

// begin begins a content.
func (p *piece) begin(head pieceHead) error {
	if err := p.discard(); err != nil {
		return err
	}
	text, err := encodeHead(head)
	if err == nil {
		_, err = p.sums.Write(text)
	}
	p.head = head
	return err
}

// add adds so many bytes as have a checksum, which follows them: a crash of the machine may leave either without the other.
func (p *piece) add(chunk []byte) error {
	if _, err := p.part.Write(chunk); err != nil {
		return err
	}
	if _, err := p.sums.Write(sumLine(chunk)); err != nil {
		return err
	}
	p.bytes += int64(len(chunk))
	return nil
}

func (p *piece) close() error { return errors.Join(p.part.Close(), p.sums.Close()) }

func sumLine(b []byte) []byte { return fmt.Appendf(nil, "%08x\n", crc32.Checksum(b, castagnoli)) }

// encodeHead returns the first line: JSON, a space, and its checksum.
func encodeHead(h pieceHead) ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return append(append(b, ' '), sumLine(b)...), nil
}

func decodeHead(line []byte) (h pieceHead, ok bool) {
	at := bytes.LastIndexByte(line, ' ')
	if at < 0 || len(line)-at-1 != sumBytes || !bytes.Equal(line[at+1:], sumLine(line[:at])) {
		return h, false
	}
	return h, json.Unmarshal(line[:at], &h) == nil
}
