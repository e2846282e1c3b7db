package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestADamagedFileRefusesTheStart with an exit status and an error that names the file and, where a record is damaged, the offset and what to do, and
// without a stack trace. Once the file is what it was the member has everything.
func TestADamagedFileRefusesTheStart(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd has other files")
	}
	const keys = 50
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	for i := range keys {
		_, err := c.Put(within(t, process.Patience), fmt.Sprint("key", i), strings.Repeat("value", 100))
		noError(t, err)
	}
	noError(t, c.Close())
	s.stop(t)

	log := filepath.Join("log", "0000000000000001.seg")
	flipped := func(eighths int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[len(b)*eighths/8] ^= 1
			return b
		}
	}
	record := []string{" offset ", "rebuild this member"}
	for _, x := range []struct {
		what, file string
		damage     func(b []byte) []byte // nil: a directory takes the file's place
		said       []string
	}{
		{"first byte of the log", log, flipped(0), record},
		{"an eighth of the log", log, flipped(1), record},
		{"half of the log", log, flipped(4), record},
		{"seven eighths of the log", log, flipped(7), record},
		{"log without its first half", log, func(b []byte) []byte { return b[len(b)/2:] }, record},
		{"log that is a directory", log, nil, nil},
		{"identity", "IDENTITY", flipped(4), nil},
		{"identity that is empty", "IDENTITY", func([]byte) []byte { return nil }, nil},
		{"identity that is a directory", "IDENTITY", nil, nil},
	} {
		path := filepath.Join(m.dataDir, "ashlar", x.file)
		sound, err := os.ReadFile(path)
		noError(t, err)
		noError(t, os.Rename(path, path+".kept"))
		if x.damage == nil {
			noError(t, os.Mkdir(path, 0o700))
		} else {
			noError(t, os.WriteFile(path, x.damage(sound), 0o600))
		}
		refused := m.launch(t)
		refused.WaitEnd(t)
		said := refused.Log.String()
		for _, part := range append(x.said, filepath.Base(path)) {
			if !strings.Contains(said, part) {
				t.Errorf("%s: %q is not in:\n%s", x.what, part, said)
			}
		}
		if refused.State().ExitCode() != 1 || strings.Contains(said, "goroutine ") {
			t.Errorf("%s: it ended with %v:\n%s", x.what, refused.State(), said)
		}
		noError(t, os.Remove(path))
		noError(t, os.Rename(path+".kept", path))
	}

	m.start(t)
	answer, err := m.connect(t).Get(within(t, process.Patience), "key", clientv3.WithPrefix(), clientv3.WithCountOnly())
	noError(t, err)
	if answer.Count != keys {
		t.Errorf("%d keys, want %d", answer.Count, keys)
	}
}
