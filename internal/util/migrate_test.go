package util

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// walWriter writes a log as etcd does.
type walWriter struct {
	b   []byte
	crc uint32
}

func (w *walWriter) record(kind uint64, data []byte) {
	w.crc = crc32.Update(w.crc, crc32.MakeTable(crc32.Castagnoli), data)
	var r []byte
	r = protowire.AppendVarint(protowire.AppendTag(r, 1, protowire.VarintType), kind)
	r = protowire.AppendVarint(protowire.AppendTag(r, 2, protowire.VarintType), uint64(w.crc))
	if data != nil {
		r = protowire.AppendBytes(protowire.AppendTag(r, 3, protowire.BytesType), data)
	}
	length, padding := uint64(len(r)), (8-len(r)%8)%8
	if padding > 0 {
		length |= uint64(0x80|padding) << 56
	}
	w.b = binary.LittleEndian.AppendUint64(w.b, length)
	w.b = append(append(w.b, r...), make([]byte, padding)...)
}

// numbers is a message of numbers, from field 1 on.
func numbers(all ...uint64) (b []byte) {
	for i, n := range all {
		b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(i+1), protowire.VarintType), n)
	}
	return b
}

func (w *walWriter) entry(t *testing.T, index uint64, r *pb.InternalRaftRequest) {
	t.Helper()
	data, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	w.record(2, protowire.AppendBytes(protowire.AppendTag(numbers(0, 1, index), 4, protowire.BytesType), data))
}

// memberOfEtcd makes the files of a stopped member, with a version in its database, "" for none, and commands in its log.
func memberOfEtcd(t *testing.T, version string, facts bool, entries func(w *walWriter)) (dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	for _, dir := range []string{"snap", "wal"} {
		if err := os.MkdirAll(filepath.Join(dataDir, "member", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d, err := etcdfile.Create(databasePath(dataDir))
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		if err := d.Put("meta", []byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if facts {
		put("confState", `{"voters":[1],"auto_leave":false}`)
		put("consistent_index", "\x00\x00\x00\x00\x00\x00\x00\x04")
	}
	if version != "" {
		put("storageVersion", version)
	}
	if facts {
		put("term", "\x00\x00\x00\x00\x00\x00\x00\x01")
	}
	if err := d.Finish(); err != nil {
		t.Fatal(err)
	}
	w := &walWriter{}
	w.record(4, nil)
	w.record(1, numbers(1, 2))
	w.record(5, numbers(0, 0))
	w.entry(t, 1, &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("a")}})
	entries(w)
	w.record(3, numbers(1, 0, 4))
	if err := os.WriteFile(filepath.Join(dataDir, "member", "wal", "0000000000000000-0000000000000000.wal"), w.b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dataDir
}

// storageVersion is what the database of a member says.
func storageVersion(t *testing.T, dataDir string) string {
	t.Helper()
	f, err := etcdfile.Open(databasePath(dataDir))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	meta, err := f.Meta()
	if err != nil {
		t.Fatal(err)
	}
	return meta.StorageVersion
}

func TestMigratingLooksAtTheDatabaseAndTheLog(t *testing.T) {
	t.Parallel()
	plain := func(w *walWriter) {
		w.entry(t, 2, &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("k"), RangeEnd: []byte("l")}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{IgnoreLease: true}}}}}})
		w.entry(t, 3, &pb.InternalRaftRequest{AuthStatus: &pb.AuthStatusRequest{}})
	}
	needs := func(version string) func(w *walWriter) {
		return func(w *walWriter) {
			plain(w)
			w.entry(t, 4, &pb.InternalRaftRequest{DowngradeVersionTest: &pb.DowngradeVersionTestRequest{Ver: version}})
		}
	}
	replaced := func(w *walWriter) {
		needs("3.7.0")(w)
		plain(w)
	}
	const newer = "Error: cannot downgrade storage, WAL contains newer entries\n"
	for name, c := range map[string]struct {
		version string
		entries func(w *walWriter)
		args    []string
		status  int
		said    string
		want    string // version afterwards
	}{
		"down one":                            {"3.7.0", plain, []string{"3.6"}, 0, "", "3.6.0"},
		"down to the first":                   {"3.7.0", plain, []string{"3.5"}, 0, "", ""},
		"up":                                  {"3.6.0", plain, []string{"3.7"}, 0, "", "3.7.0"},
		"up from the first":                   {"", plain, []string{"3.6"}, 0, "", "3.6.0"},
		"where it is":                         {"3.7.0", needs("3.7.0"), []string{"3.7"}, 0, "", "3.7.0"},
		"where it is, the first":              {"", needs("3.7.0"), []string{"3.5"}, 0, "", ""},
		"down, with a message of a newer one": {"3.7.0", needs(""), []string{"3.5"}, 1, newer, "3.7.0"},
		"down to where that message is known": {"3.7.0", needs(""), []string{"3.6"}, 0, "", "3.6.0"},
		"down, with an entry of a newer one":  {"3.7.0", needs("3.7.0"), []string{"3.6"}, 1, newer, "3.7.0"},
		"down by force":                       {"3.7.0", needs("3.7.0"), []string{"3.6", "--force"}, 0, "", "3.6.0"},
		"down, with an entry that was undone": {"3.7.0", replaced, []string{"3.5"}, 0, "", ""},
		"up, with an entry of a newer one":    {"3.6.0", needs("3.7.0"), []string{"3.7"}, 0, "", "3.7.0"},
		"to one that nobody knows":            {"3.7.0", plain, []string{"3.8"}, 1, "Error: cannot create migration plan: version \"3.8.0\" is not supported\n", "3.7.0"},
		"to one that nobody knows, by force":  {"3.7.0", plain, []string{"3.8", "--force"}, 0, "", "3.8.0"},
		"from one that nobody knows":          {"3.8.0", plain, []string{"3.7"}, 1, "Error: cannot create migration plan: version \"3.8.0\" is not supported\n", "3.8.0"},
		"to another major version":            {"3.7.0", plain, []string{"4.0"}, 1, "Error: cannot create migration plan: changing major storage version is not supported\n", "3.7.0"},
		"from another major version":          {"4.0.0", plain, []string{"3.7"}, 1, "Error: cannot create migration plan: changing major storage version is not supported\n", "4.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := memberOfEtcd(t, c.version, true, c.entries)
			got := tool(append([]string{"migrate", "--data-dir", dir, "--target-version"}, c.args...)...)
			if want := (outcome{c.status, "", c.said}); got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			if got := storageVersion(t, dir); got != c.want {
				t.Errorf("the version is %q, want %q", got, c.want)
			}
		})
	}
}

func TestMigratingNeedsAWholeMember(t *testing.T) {
	t.Parallel()
	none := func(*walWriter) {}
	if got := tool("migrate", "--data-dir", memberOfEtcd(t, "", false, none), "--target-version", "3.6"); got != (outcome{1, "", "Error: missing confstate information\n"}) {
		t.Errorf("got %+v", got)
	}
	dir := memberOfEtcd(t, "3.7.0", true, none)
	wal := filepath.Join(dir, "member", "wal")
	elsewhere := filepath.Join(t.TempDir(), "wal")
	if err := os.Rename(wal, elsewhere); err != nil {
		t.Fatal(err)
	}
	if got := tool("migrate", "--data-dir", dir, "--target-version", "3.6"); got.status != 1 || storageVersion(t, dir) != "3.7.0" {
		t.Errorf("without its log: %+v", got)
	}
	if got := tool("migrate", "--data-dir", dir, "--wal-dir", elsewhere, "--target-version", "3.6"); got.status != 0 || storageVersion(t, dir) != "3.6.0" {
		t.Errorf("with its log elsewhere: %+v", got)
	}
}
