package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// unpackLeft unpacks what a member of etcd left (internal/member/testdata), with the summary of what it held.
func unpackLeft(t *testing.T, name, dir string) (s struct {
	Revision int64
	Hashes   map[int64]uint32
}) {
	t.Helper()
	from := filepath.Join("..", "..", "internal", "member", "testdata", name)
	b, err := os.ReadFile(from + ".json")
	noError(t, err)
	noError(t, json.Unmarshal(b, &s))
	f, err := os.Open(from + ".tar.gz")
	noError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	noError(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return s
		}
		noError(t, err)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		b, err := io.ReadAll(r)
		noError(t, err)
		noError(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)))
		if size, err := strconv.ParseInt(h.PAXRecords["ASHLAR.size"], 10, 64); err == nil { // zeros at the end are left out
			noError(t, os.Truncate(path, size))
		}
	}
}

// written is how many files there are in a directory of ours, and how many bytes in them.
func written(dir string) (n int64) {
	_ = filepath.WalkDir(filepath.Join(dir, "ashlar"), func(_ string, d fs.DirEntry, err error) error { // files come and go meanwhile
		if err == nil && !d.IsDir() {
			n++
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// TestATakeOverThatIsKilledBeginsAgain kills the server again and again while it takes over what etcd left, each time after it
// was seen to write once more than at the time before, until one gets to the end. What it holds then is what etcd held.
func TestATakeOverThatIsKilledBeginsAgain(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd takes nothing over")
	}
	for _, name := range []string{"etcd-3.5-killed", "etcd-3.6-stopped", "etcd-3.7-killed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMember(t)
			want := unpackLeft(t, name, m.dataDir)
			const killsMax = 40
			killed := 0
			for killed < killsMax && killAfter(m.launch(t), m.dataDir, killed+1) {
				killed++
			}
			t.Logf("killed %d times", killed)
			if killed == 0 {
				t.Error("it was never killed in the middle")
			}
			if m.last.Log.Contains(process.ReadyLine) {
				m.last.stop(t)
			}
			m.start(t)
			checkLeft(t, m, want.Revision, want.Hashes)
			if _, err := os.Stat(filepath.Join(m.dataDir, "member.etcd-taken-over")); err != nil {
				t.Error(err)
			}
		})
	}
}

// killAfter kills the server once its directory was seen to change n times, and returns false when it serves or has ended before.
func killAfter(s *server, dir string, n int) bool {
	last := written(dir)
	for !s.Log.Contains(process.ReadyLine) {
		if now := written(dir); now != last {
			last = now
			n--
		}
		if n == 0 {
			s.Kill()
			<-s.Ended()
			return true
		}
		select {
		case <-s.Ended():
			return false // the next start shows why
		default:
		}
	}
	return false
}

// checkLeft compares the member's keys with what etcd's were.
func checkLeft(t *testing.T, m *member, revision int64, hashes map[int64]uint32) {
	t.Helper()
	for at, want := range hashes {
		body := strings.NewReader(fmt.Sprintf(`{"revision":%d}`, at))
		req, err := http.NewRequestWithContext(within(t, process.Patience), http.MethodGet, m.peer+"/members/hashkv", body)
		noError(t, err)
		resp, err := http.DefaultClient.Do(req)
		noError(t, err)
		var got struct {
			Header struct {
				Revision int64 `json:"revision"`
			} `json:"header"`
			Hash uint32 `json:"hash"`
		}
		err = json.NewDecoder(resp.Body).Decode(&got)
		noError(t, errors.Join(err, resp.Body.Close()))
		if got.Hash != want || got.Header.Revision != revision {
			t.Errorf("at %d: hash %d at revision %d, want %d and %d", at, got.Hash, got.Header.Revision, want, revision)
		}
	}
	if len(hashes) == 0 {
		t.Error("nothing was compared")
	}
}
