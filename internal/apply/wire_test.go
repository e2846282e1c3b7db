package apply

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The bytes are entries of a log that etcd 3.7.1 wrote.
func TestEncodeWritesWhatEtcdWrites(t *testing.T) {
	t.Parallel()
	attributes, err := proto.Marshal(&membershippb.ClusterMemberAttrSetRequest{
		Member_ID: 9829954754940738069,
		MemberAttributes: &membershippb.Attributes{
			Name: "default", ClientUrls: []string{"http://127.0.0.1:24790"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		id   uint64
		cmd  Command
		raw  []byte
		want string
	}{
		"a put": {11102958563262043395, CommandPut, []byte("\x0a\x01a\x12\x010"),
			"22060a0161120130a2060b0883aaf6f8cbbfe88a9a01"},
		"a cluster version": {11102958563262043394, CommandClusterVersionSet, []byte("\x0a\x053.7.0"),
			"a2060b0882aaf6f8cbbfe88a9a01a251070a05332e372e30"},
		"a member's attributes": {11102958563262043393, CommandClusterMemberAttrSet, attributes,
			"a2060b0881aaf6f8cbbfe88a9a01aa512e0895b49ef3caf8c0b5880112210a0764656661756c741216687474703a2f2f3132372e302e302e313a3234373930"},
	}
	for name, c := range cases {
		got := Encode(Header{ID: c.id}, c.cmd, c.raw)
		if hex.EncodeToString(got) != c.want {
			t.Errorf("%s is %x, not %s", name, got, c.want)
		}
		if len(got) != cap(got) {
			t.Errorf("%s has %d bytes in an array of %d", name, len(got), cap(got))
		}
		h, cmd, raw, err := Decode(got)
		if err != nil || h.ID != c.id || cmd != c.cmd || !bytes.Equal(raw, c.raw) {
			t.Errorf("%s comes back as %+v, %s, %x, %v", name, h, cmd, raw, err)
		}
	}
}

// TestALargeRequestIsEncodedAsAnyOther puts a request of each command next to a bound of what is joined.
func TestALargeRequestIsEncodedAsAnyOther(t *testing.T) {
	t.Parallel()
	h := Header{ID: 7, Username: "u", AuthRevision: 9}
	for _, cmd := range []Command{CommandPut, CommandTxn, CommandClusterVersionSet} {
		for _, n := range []int{largeRaw - 1, largeRaw, largeRaw + 1} {
			raw := bytes.Repeat([]byte{1}, n)
			command, header := appendField(nil, protowire.Number(cmd), raw), appendField(nil, fieldHeader, h.append(nil))
			want := slices.Concat(command, header)
			if cmd > fieldHeader {
				want = slices.Concat(header, command)
			}
			if got := Encode(h, cmd, raw); !bytes.Equal(got, want) || len(got) != cap(got) {
				t.Errorf("%s of %d bytes: %d bytes in an array of %d, %v", cmd, n, len(got), cap(got), bytes.Equal(got, want))
			}
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	header := appendField(nil, fieldHeader, Header{ID: 5, Username: "u", AuthRevision: 7}.append(nil))
	put := appendField(nil, protowire.Number(CommandPut), []byte("\x0a\x01a"))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cases := map[string]struct {
		data []byte
		h    Header
		cmd  Command
		raw  string
		err  error
	}{
		"a header behind the command":       {join(put, header), Header{5, "u", 7}, CommandPut, "\x0a\x01a", nil},
		"a header before it":                {join(header, put), Header{5, "u", 7}, CommandPut, "\x0a\x01a", nil},
		"an id beside the header":           {join(put, header, []byte("\x08\x09")), Header{9, "u", 7}, CommandPut, "\x0a\x01a", nil},
		"a command in two parts":            {join(put, header, put), Header{}, 0, "", ErrMalformed},
		"unknown fields beside the command": {join(put, appendNumber(nil, 50, 1)), Header{}, CommandPut, "\x0a\x01a", nil},
		"no command":                        {header, Header{}, 0, "", ErrUnknownCommand},
		"a command of a newer release":      {join(header, appendField(nil, 77, nil)), Header{}, 0, "", ErrUnknownCommand},
		"a command of another wire type":    {join(header, appendNumber(nil, 4, 1)), Header{}, 0, "", ErrUnknownCommand},
		"two commands":                      {join(put, appendField(nil, 5, nil)), Header{}, 0, "", ErrMalformed},
		"cut short":                         {put[:3], Header{}, 0, "", ErrMalformed},
		"a name that is not UTF-8":          {appendField(nil, fieldHeader, []byte("\x12\x01\xff")), Header{}, 0, "", ErrMalformed},
	}
	for name, c := range cases {
		h, cmd, raw, err := Decode(c.data)
		if h != c.h || cmd != c.cmd || string(raw) != c.raw || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %s, %q, %v", name, h, cmd, raw, err)
		}
	}
}

// nestedTxn is a transaction with that many transactions in each other.
func nestedTxn(depth int) []byte {
	// Each is the success branch's operation of the one around it: fields 2 and 4. The heads are made from the inside out.
	var heads [][]byte
	size := 0
	for range depth - 1 {
		op := appendLength(nil, answerTxn, size)
		around := append(appendLength(nil, 2, len(op)+size), op...)
		heads = append(heads, around)
		size += len(around)
	}
	out := make([]byte, 0, size)
	for i := len(heads) - 1; i >= 0; i-- {
		out = append(out, heads[i]...)
	}
	return out
}

func TestNestingHasTheLimitOfTheLibrary(t *testing.T) {
	t.Parallel()
	// Two messages for each transaction but the first.
	const most = nestingMax / 2
	for _, depth := range []int{1, 2, most, most + 1, most + 2, 3 * most} {
		raw := nestedTxn(depth)
		_, err := ParseTxn(raw)
		if want := proto.Unmarshal(raw, &etcdserverpb.TxnRequest{}); (err == nil) != (want == nil) {
			t.Errorf("%d deep: %v, the library says %v", depth, err, want)
		}
	}
	l := newLab(t)
	var deep etcdserverpb.TxnRequest
	if err := proto.Unmarshal(nestedTxn(most), &deep); err != nil {
		t.Fatal(err)
	}
	r := l.do(CommandTxn, &deep)
	if r.Err != nil || !strings.HasPrefix(string(r.Body), "\x10\x01\x1a") {
		t.Errorf("a transaction with %d in it: %v, %d bytes", most, r.Err, len(r.Body))
	}
}
