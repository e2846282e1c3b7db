package member

import (
	"errors"
	"io"

	"go.etcd.io/raft/v3/raftpb"
)

// ReceiveDatabase is ReceiveSnapshot for a database file of etcd.
func (m *Member) ReceiveDatabase(_ *raftpb.Message, _ io.Reader) error {
	return errors.New("member: snapshots of etcd cannot be installed yet")
}
