package apply

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// v2Entry is a request of etcd 3.5 by itself: 1 id, 2 method, 3 path, 4 value.
func v2Entry(method, path, value string) []byte {
	b := appendNumber(nil, 1, 77)
	for i, text := range []string{method, path, value} {
		b = appendField(b, protowire.Number(2+i), []byte(text))
	}
	return b
}

func TestRequestsOfTheV2StoreAreRead(t *testing.T) {
	t.Parallel()
	const attributes = `{"name":"m","clientURLs":["http://c"]}`
	for name, c := range map[string]struct {
		method, path, value string
		err                 error
	}{
		"a member publishes itself":      {"PUT", "/0/members/8e9e05c52164694d/attributes", attributes, nil},
		"the version of the cluster":     {"PUT", "/0/version", "3.5.0", nil},
		"a version above ours":           {"PUT", "/0/version", "4.0.0", ErrClusterVersion},
		"a version that is none":         {"PUT", "/0/version", "?", ErrMalformed},
		"attributes that are none":       {"PUT", "/0/members/1/attributes", "?", ErrMalformed},
		"a client's key":                 {"PUT", "/1/key", "v", ErrUnknownCommand},
		"another record of a member":     {"PUT", "/0/members/1/raftAttributes", "{}", ErrUnknownCommand},
		"a member with a path behind it": {"PUT", "/0/members/1/attributes/x", attributes, ErrUnknownCommand},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bare := v2Entry(c.method, c.path, c.value)
			for _, data := range [][]byte{bare, appendField(nil, 2, bare)} {
				h, cmd, raw, err := Decode(data)
				if err != nil || cmd != CommandV2 || len(raw) != len(bare) {
					t.Fatalf("%v, %d bytes, %v", cmd, len(raw), err)
				}
				if len(data) == len(bare) && h.ID != 77 {
					t.Errorf("the id is %d", h.ID)
				}
				e := &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Index: proto.Uint64(3), Data: data}
				if err := Acceptable(e); !errors.Is(err, c.err) {
					t.Errorf("acceptable: %v, want %v", err, c.err)
				}
			}
		})
	}
	if _, _, _, err := Decode(v2Entry("DELETE", "/0/version", "")); err == nil {
		t.Error("a method that etcd 3.6 does not know, either, is read")
	}
}

func TestRequestsOfTheV2StoreChangeTheMembership(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	e := confChange(t, 1, raftpb.ConfChangeAddNode, 1, cluster.Member{ID: 1, PeerURLs: []string{"http://a"}})
	cc, err := l.m.CheckConfChange(e)
	l.check(err)
	l.check(l.m.FinishConfChange(e, cc, &raftpb.ConfState{Voters: []uint64{1}}, func(uint64, Result) {}))
	l.check(l.m.Apply([]*raftpb.Entry{
		entryAt(2, v2Entry("PUT", "/0/version", "3.5.0")),
		entryAt(3, v2Entry("PUT", "/0/members/1/attributes", `{"name":"one","clientURLs":["http://c"]}`)),
		entryAt(4, v2Entry("PUT", "/0/members/abc/attributes", `{"name":"nobody"}`)), // as in etcd
	}, func(uint64) bool { return false }, func(uint64, Result) {}))
	l.last = 4
	l.reopen(false)
	if got := l.members.Version(); got != "3.5.0" {
		t.Errorf("the version is %q", got)
	}
	if all := l.members.Members(); len(all) != 1 || all[0].Name != "one" || len(all[0].ClientURLs) != 1 {
		t.Errorf("the members are %+v", all)
	}
	err = l.m.Apply([]*raftpb.Entry{entryAt(5, v2Entry("PUT", "/1/k", "v"))}, func(uint64) bool { return false }, nil)
	if !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("a client's key: %v", err)
	}
}

func TestEntriesThatWouldStopTheMemberAreNotAcceptable(t *testing.T) {
	t.Parallel()
	command := func(c Command, m proto.Message) []byte {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return Encode(Header{ID: 1}, c, raw)
	}
	noPassword := &etcdserverpb.AuthUserAddRequest{Name: "u", Password: "p", Options: &authpb.UserAddOptions{NoPassword: true}}
	conf := func(cc *raftpb.ConfChange) []byte {
		b, err := proto.Marshal(cc)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		kind raftpb.EntryType
		data []byte
		err  error
	}{
		"an empty entry":                   {raftpb.EntryNormal, nil, nil},
		"a put":                            {raftpb.EntryNormal, command(CommandPut, &etcdserverpb.PutRequest{Key: []byte("k")}), nil},
		"a put that cannot be read":        {raftpb.EntryNormal, Encode(Header{}, CommandPut, []byte{0xff}), ErrMalformed},
		"a field that nobody knows":        {raftpb.EntryNormal, appendField(nil, 8000, nil), ErrUnknownCommand},
		"a user with a hashed password":    {raftpb.EntryNormal, command(CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "u", HashedPassword: "aGFzaA=="}), nil},
		"a user with a password":           {raftpb.EntryNormal, command(CommandAuthUserAdd, &etcdserverpb.AuthUserAddRequest{Name: "u", Password: "p"}), ErrPlainPassword},
		"a user that needs no password":    {raftpb.EntryNormal, command(CommandAuthUserAdd, noPassword), nil},
		"a password changed in the clear":  {raftpb.EntryNormal, command(CommandAuthUserChangePassword, &etcdserverpb.AuthUserChangePasswordRequest{Name: "u", Password: "p"}), ErrPlainPassword},
		"a joint configuration":            {raftpb.EntryConfChangeV2, nil, ErrUnknownCommand},
		"a change of configuration":        {raftpb.EntryConfChange, conf(&raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(1)}), nil},
		"one whose context cannot be read": {raftpb.EntryConfChange, conf(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(1)}), ErrMalformed},
		"one that cannot be read":          {raftpb.EntryConfChange, []byte{0xff}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &raftpb.Entry{Type: c.kind.Enum(), Index: proto.Uint64(3), Data: c.data}
			if err := Acceptable(e); !errors.Is(err, c.err) {
				t.Errorf("%v, want %v", err, c.err)
			}
			if c.kind != raftpb.EntryNormal || c.err != nil {
				return
			}
			e.Index = proto.Uint64(1)
			if err := newLab(t).m.Apply([]*raftpb.Entry{e}, func(uint64) bool { return true }, func(uint64, Result) {}); err != nil {
				t.Errorf("applied: %v", err)
			}
		})
	}
}

// TestWhatStopsTheMachineIsNotAcceptable, whichever command it is that cannot be read.
func TestWhatStopsTheMachineIsNotAcceptable(t *testing.T) {
	t.Parallel()
	for c := range commandNames {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			e := entryAt(1, Encode(Header{ID: 1}, c, []byte{0xff}))
			stops := newLab(t).m.Apply([]*raftpb.Entry{e}, func(uint64) bool { return true }, func(uint64, Result) {})
			if err := Acceptable(e); (err == nil) != (stops == nil) {
				t.Errorf("acceptable: %v, and applied: %v", err, stops)
			}
		})
	}
}
