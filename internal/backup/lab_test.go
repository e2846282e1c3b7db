package backup

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// store is a naive model of a database of etcd's: what it would write, record by record.
type store struct {
	revision, compacted int64
	versions            []version
	users               int
}

type version struct {
	at         int64
	tombstone  bool
	key, value string
	n          int64 // of the key's life
}

func (s *store) put(key, value string) {
	s.revision++
	n := int64(1)
	if v, ok := s.newest(key, s.revision); ok && !v.tombstone {
		n = v.n + 1
	}
	s.versions = append(s.versions, version{s.revision, false, key, value, n})
}

func (s *store) del(key string) {
	if v, ok := s.newest(key, s.revision); ok && !v.tombstone {
		s.revision++
		s.versions = append(s.versions, version{at: s.revision, tombstone: true, key: key})
	}
}

func (s *store) newest(key string, at int64) (found version, ok bool) {
	for _, v := range s.versions {
		if v.key == key && v.at <= at {
			found, ok = v, true
		}
	}
	return found, ok
}

// compact forgets what is superseded at a revision, and keys that were deleted before it.
func (s *store) compact(at int64) {
	s.compacted = at
	before := slices.Clone(s.versions)
	s.versions = slices.DeleteFunc(s.versions, func(v version) bool {
		if v.at > at {
			return false
		}
		last, _ := (&store{versions: before}).newest(v.key, at)
		return v != last || v.tombstone && v.at < at
	})
}

func (v version) record() record {
	kv := &mvccpb.KeyValue{Key: []byte(v.key)}
	suffix := ""
	if v.tombstone {
		suffix = "t"
	} else {
		kv.Value, kv.ModRevision, kv.CreateRevision, kv.Version = []byte(v.value), v.at, 1, v.n
	}
	value, err := proto.Marshal(kv)
	if err != nil {
		panic(err)
	}
	return record{etcdfile.BucketKey, fmt.Appendf(nil, "%s_%s%s", number(v.at), number(0), suffix), value}
}

func number(n int64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (8 * (7 - i)))
	}
	return b
}

// records is everything that the database holds.
func (s *store) records() (all []record) {
	for i := range s.users {
		all = append(all, record{"authUsers", fmt.Appendf(nil, "user-%03d", i), []byte("hash")})
	}
	for _, v := range s.versions {
		all = append(all, v.record())
	}
	if s.compacted > 0 {
		all = append(all, record{"meta", []byte("scheduledCompactRev"), fmt.Appendf(nil, "%s_%s", number(s.compacted), number(0))})
	}
	return all
}

// source is the store as it is when it is fetched.
func (s *store) source() Source {
	return Source{Cluster: "abc", Fetch: func(_ context.Context, path string) error {
		w, err := etcdfile.Create(path)
		if err != nil {
			return err
		}
		for _, r := range s.records() {
			if err := w.Put(r.bucket, r.key, r.value); err != nil {
				return err
			}
		}
		if err := w.Finish(); err != nil {
			return err
		}
		return etcdfile.AppendSum(context.Background(), path)
	}}
}

// options gives each point another time: the n-th second.
func options(n int) Options {
	return Options{Now: time.Unix(int64(n), 0), Logger: slog.New(slog.DiscardHandler)}
}

// nothingElse checks that only files of the backup's own are left.
func nothingElse(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); n != lockName && numberOf(n) == 0 {
			tb.Errorf("%s is left", n)
		}
	}
}

// exported returns the records of a point.
func exported(tb testing.TB, dir string, number int) (all []record) {
	tb.Helper()
	out := filepath.Join(dir, "..", fmt.Sprintf("export-%d-%s", number, filepath.Base(dir)))
	defer os.Remove(out)
	if _, err := Export(context.Background(), dir, number, out); err != nil {
		tb.Fatalf("export point %d: %v", number, err)
	}
	if err := etcdfile.CheckSum(context.Background(), out); err != nil {
		tb.Fatal(err)
	}
	f, err := etcdfile.Open(out)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	err = f.Records(context.Background(), func(bucket string, key, value []byte) error {
		if key != nil {
			all = append(all, record{bucket, bytes.Clone(key), bytes.Clone(value)})
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func sameRecords(a, b []record) bool {
	return slices.EqualFunc(a, b, func(x, y record) bool {
		return x.bucket == y.bucket && bytes.Equal(x.key, y.key) && bytes.Equal(x.value, y.value)
	})
}

// threePoints is a backup with a full point and two increments.
func threePoints(t *testing.T) (dir string, s *store) {
	t.Helper()
	dir, s = filepath.Join(t.TempDir(), "backup"), &store{revision: 1}
	for n := 1; n <= 3; n++ {
		s.put("a", fmt.Sprint(n))
		s.put("b", "x")
		s.users = n
		if n == 3 {
			s.compact(4)
		}
		if _, err := Create(t.Context(), dir, s.source(), options(n)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, s
}
