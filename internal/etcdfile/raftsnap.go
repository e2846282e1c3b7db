package etcdfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// raftSnapMax bounds what is read of a snapshot file: it holds the members alone, unless clients wrote to the v2 store.
const raftSnapMax = 256 << 20

// RaftSnap is a file that etcd leaves with each snapshot of raft's: how far it is, and the v2 store.
type RaftSnap struct {
	Index, Term uint64
	ConfState   *raftpb.ConfState
	// Members are those of the v2 store, HasKeys says that clients wrote keys to it.
	Members []cluster.Member
	HasKeys bool
}

// RaftSnapName returns the name of the file of the snapshot at an entry.
func RaftSnapName(term, index uint64) string { return fmt.Sprintf("%016x-%016x.snap", term, index) }

// ReadRaftSnap reads such a file. The error names it, and wraps ErrInvalid when it is damaged.
func ReadRaftSnap(path string) (s RaftSnap, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("read a snapshot: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, raftSnapMax+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return s, fmt.Errorf("read the snapshot %s: %w", path, err)
	}
	if len(b) > raftSnapMax {
		return s, fmt.Errorf("%w: the snapshot %s is larger than %d bytes", ErrInvalid, path, raftSnapMax)
	}
	if s, err = decodeRaftSnap(b); err != nil {
		return s, fmt.Errorf("%w: the snapshot %s: %w", ErrInvalid, path, err)
	}
	return s, nil
}

// decodeRaftSnap decodes a file: 1 checksum, 2 an encoded raftpb.Snapshot.
func decodeRaftSnap(b []byte) (s RaftSnap, err error) {
	var sum uint64
	var data []byte
	err = eachField(b, func(field protowire.Number, n uint64, x []byte) {
		switch field {
		case 1:
			sum = n
		case 2:
			data = x
		}
	})
	if err != nil {
		return s, err
	}
	if crc32.Checksum(data, castagnoli) != uint32(sum) || len(data) == 0 {
		return s, errors.New("its checksum does not match")
	}
	snap := &raftpb.Snapshot{}
	if err := proto.Unmarshal(data, snap); err != nil {
		return s, err
	}
	meta := snap.GetMetadata()
	s.Index, s.Term, s.ConfState = meta.GetIndex(), meta.GetTerm(), meta.GetConfState()
	if len(snap.GetData()) == 0 {
		return s, nil
	}
	return s, s.readV2(snap.GetData())
}

// readV2 reads the v2 store.
func (s *RaftSnap) readV2(data []byte) error {
	var store v2Store
	if err := json.Unmarshal(data, &store); err != nil {
		return fmt.Errorf("the v2 store: %w", err)
	}
	if keys := store.Root.child("1"); keys != nil {
		s.HasKeys = len(keys.Children) > 0
	}
	members := store.Root.child("0").child("members")
	if members == nil {
		return nil
	}
	for name, dir := range members.Children {
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return fmt.Errorf("the v2 store: the member %q: %w", name, err)
		}
		m := cluster.Member{ID: cluster.ID(id)}
		for _, part := range []string{"raftAttributes", "attributes"} {
			n := dir.child(part)
			if n == nil {
				continue
			}
			if err := json.Unmarshal([]byte(n.Value), &m); err != nil {
				return fmt.Errorf("the v2 store: member %s: %w", m.ID, err)
			}
		}
		m.ID = cluster.ID(id)
		s.Members = append(s.Members, m)
	}
	return nil
}

// child returns the child of a name, nil when there is none.
func (n *v2Node) child(name string) *v2Node {
	if n == nil {
		return nil
	}
	return n.Children[name]
}
