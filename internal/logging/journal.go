package logging

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"path"
	"strings"
	"time"
)

// JournalOutput is the output that is systemd's journal.
const JournalOutput = "systemd/journal"

// journalSocket is where journald listens, by its documentation.
const journalSocket = "/run/systemd/journal/socket"

const (
	// journalLineMax bounds a line; what is longer is cut. Above a datagram's size journald would want a file.
	journalLineMax = 32 << 10
	// journalTimeout is how long a journal that takes nothing holds up whoever logs. The line is lost then.
	journalTimeout = time.Second
)

// journal writes lines to journald by its native protocol: a datagram of fields for each. The line is MESSAGE, its level is in
// PRIORITY too, its package in PACKAGE. It may be restarted: every datagram is addressed anew.
type journal struct {
	conn       *net.UnixConn
	to         *net.UnixAddr
	identifier string
}

// openJournal fails when nobody listens at the socket.
func openJournal(socket, identifier string) (*journal, error) {
	to := &net.UnixAddr{Name: socket, Net: "unixgram"}
	probe, err := net.DialUnix("unixgram", nil, to)
	if err != nil {
		return nil, fmt.Errorf("can't find journal (%w)", err) // etcd's words
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // an address that the system picks
	if err != nil {
		return nil, fmt.Errorf("open a socket for the journal: %w", err)
	}
	return &journal{conn, to, identifier}, nil
}

// WriteLine sends one line, with the fields that etcd sends.
func (j *journal) WriteLine(level slog.Level, from string, line []byte) error {
	message := strings.TrimSuffix(string(line), "\n")
	message = message[:min(len(message), journalLineMax)]
	var b []byte
	b = appendField(b, "PRIORITY", priority(level))
	b = appendField(b, "SYSLOG_IDENTIFIER", j.identifier)
	if from != "" {
		b = appendField(b, "PACKAGE", path.Dir(from))
	}
	b = appendField(b, "MESSAGE", message)
	if err := j.conn.SetWriteDeadline(time.Now().Add(journalTimeout)); err != nil {
		return err
	}
	_, _, err := j.conn.WriteMsgUnix(b, nil, j.to)
	return err
}

// Close closes the socket.
func (j *journal) Close() error { return j.conn.Close() }

// appendField appends a field: NAME=value, or with its length when the value holds a line feed.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.ContainsRune(value, '\n') {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	b = append(b, value...)
	return append(b, '\n')
}

// priority is the level as syslog has it.
func priority(l slog.Level) string {
	switch {
	case l >= LevelFatal:
		return "2"
	case l >= slog.LevelError:
		return "3"
	case l >= slog.LevelWarn:
		return "4"
	case l >= slog.LevelInfo:
		return "6"
	}
	return "7"
}
