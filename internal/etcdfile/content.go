package etcdfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Content is the content of a state of ours at one instant. It belongs to one goroutine; the database must stay open until
// Close.
type Content struct {
	db *storage.DB
	it *storage.Iterator

	loader mvcc.Loader
	key    []byte // of the last seek

	runBytes int // of the sorter

	// Rest is called some ten thousand times a second while Write works, so that it need not take all of a processor; nil only lets other
	// goroutines run.
	Rest func()

	// Index and Term are those of the last entry applied, Revision is the store's.
	Index, Term uint64
	Revision    int64
	// ClusterVersion is the cluster's version, "" while none is set. It is the level of the records, too.
	ClusterVersion string
}

// sink takes one record. The slices are its own only until it returns.
type sink func(bucket string, key, value []byte) error

// Read opens the content of a state as it is now. The caller closes it.
func Read(db *storage.DB) (*Content, error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return nil, fmt.Errorf("open a view of the state: %w", err)
	}
	c := &Content{db: db, it: it, runBytes: runBytes}
	err = c.meta("applied", func(v []byte) (err error) {
		c.Index, c.Term, c.Revision, err = mvcc.DecodeApplied(v)
		return err
	})
	if err == nil {
		err = c.meta(clusterVersion, func(v []byte) error { c.ClusterVersion = string(v); return nil })
	}
	if err != nil {
		_ = it.Close() // the first error is the one to tell
		return nil, err
	}
	c.Revision = max(1, c.Revision)
	return c, nil
}

// Close gives the view back.
func (c *Content) Close() error { return c.explain(errors.Join(c.loader.Close(), c.it.Close())) }

func (c *Content) explain(err error) error { return c.db.Explain("reading the state", err) }

// at returns the value of a record, which is valid until the next read; found says whether there is one.
func (c *Content) at(key []byte) (value []byte, found bool, err error) {
	if !c.it.SeekGE(key) {
		return nil, false, c.explain(c.it.Error())
	}
	if string(c.it.Key()) != string(key) {
		return nil, false, nil
	}
	value, err = c.it.ValueAndErr()
	return value, err == nil, c.explain(err)
}

// meta calls fn with a meta record, if it is there.
func (c *Content) meta(name string, fn func(value []byte) error) error {
	c.key = storage.AppendPlainKey(c.key[:0], storage.SpaceMeta, []byte(name))
	v, found, err := c.at(c.key)
	if err != nil || !found {
		return err
	}
	if err := fn(v); err != nil {
		return fmt.Errorf("the record %s: %w", name, err)
	}
	return nil
}

// each calls fn for every record of a space, with the key inside the space.
func (c *Content) each(space byte, fn func(rest, value []byte) error) error {
	lower, upper := storage.SpaceBounds(space)
	for ok := c.it.SeekGE(lower); ok && storage.CompareKeys(c.it.Key(), upper) < 0; ok = c.it.Next() {
		v, err := c.it.ValueAndErr()
		if err != nil {
			return c.explain(err)
		}
		if err := fn(storage.PlainRest(c.it.Key()), v); err != nil {
			return err
		}
	}
	return c.explain(c.it.Error())
}

// small gives everything but the versions of keys to put.
func (c *Content) small(put sink) error {
	for _, part := range []func(sink) error{c.alarms, c.auth, c.cluster, c.leases, c.members, c.facts} {
		if err := part(put); err != nil {
			return err
		}
	}
	return nil
}

// Hash returns a hash of everything but the versions of keys, of which it takes the hash, and the bucket meta, which
// says how far this member is.
func (c *Content) Hash(ctx context.Context, versions uint32) (uint32, error) {
	h := crc32.New(castagnoli)
	var n []byte
	sum := func(bucket string, key, value []byte) error {
		for _, part := range [][]byte{[]byte(bucket), key, value} {
			n = binary.AppendUvarint(n[:0], uint64(len(part)))
			_, _ = h.Write(n) // a hash takes everything
			_, _ = h.Write(part)
		}
		return ctx.Err()
	}
	for _, part := range []func(sink) error{c.alarms, c.auth, c.cluster, c.leases, c.members} {
		if err := part(sum); err != nil {
			return 0, err
		}
	}
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, versions))
	return h.Sum32(), nil
}

// alarms gives the alarms. Their keys begin with the low bits of the members' ids, so their order is not that of the ids.
func (c *Content) alarms(put sink) error {
	var keys [][]byte
	err := c.each(storage.SpaceAlarms, func(rest, _ []byte) error {
		if len(rest) != 8+4 {
			return fmt.Errorf("%w: the alarm %x", storage.ErrCorrupt, rest)
		}
		keys = append(keys, encodeAlarm(binary.BigEndian.Uint64(rest), binary.BigEndian.Uint32(rest[8:])))
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(keys, bytes.Compare)
	for _, key := range keys {
		if err := put(bucketAlarm, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// auth gives users and roles, whose records are etcd's. In a cluster without any, etcd starts to count at 1.
func (c *Content) auth(put sink) error {
	v, found, err := c.at(auth.StandingKey())
	revision := uint64(1)
	if found {
		var enabled bool
		if enabled, revision, err = auth.DecodeStanding(v); err == nil {
			err = put(bucketAuth, []byte(authEnabled), []byte{boolByte(enabled)})
		}
	}
	if err == nil {
		err = put(bucketAuth, []byte(authRevision), encodeNumber(revision))
	}
	if err != nil {
		return err
	}
	// Roles come before users, in the state and in the file.
	return c.each(storage.SpaceAuth, func(rest, v []byte) error {
		switch kind, name := auth.SplitKey(rest); kind {
		case auth.RecordRole:
			return put(bucketAuthRoles, name, v)
		case auth.RecordUser:
			return put(bucketAuthUsers, name, v)
		}
		return nil
	})
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (c *Content) cluster(put sink) error {
	for _, name := range []string{clusterVersion, clusterTarget} {
		err := c.meta(name, func(v []byte) error { return put(bucketCluster, []byte(name), v) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Content) leases(put sink) error {
	var value []byte
	return c.each(storage.SpaceLeases, func(rest, v []byte) error {
		l, err := lease.Decode(rest, v)
		if err != nil {
			return err
		}
		value = appendLease(value[:0], l)
		return put(bucketLease, rest, value)
	})
}

// members gives the members, and those that were removed. Their names have no leading zeros, so their order is not that of the ids.
func (c *Content) members(put sink) error {
	if err := c.named(storage.SpaceMembers, func(key, v []byte) error { return put(bucketMembers, key, v) }); err != nil {
		return err
	}
	return c.named(storage.SpaceRemoved, func(key, _ []byte) error { return put(bucketRemoved, key, []byte(removedValue)) })
}

// named calls fn for all records that a space has by member ids, in the order of the members' names.
func (c *Content) named(space byte, fn func(name, v []byte) error) error {
	type named struct{ name, v []byte }
	var all []named
	err := c.each(space, func(rest, v []byte) error {
		if len(rest) != 8 {
			return fmt.Errorf("%w: the member %x", storage.ErrCorrupt, rest)
		}
		all = append(all, named{memberName(binary.BigEndian.Uint64(rest)), bytes.Clone(v)})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b named) int { return bytes.Compare(a.name, b.name) })
	for _, x := range all {
		if err := fn(x.name, x.v); err != nil {
			return err
		}
	}
	return nil
}

// facts gives the bucket meta.
func (c *Content) facts(put sink) error {
	err := c.meta("confstate", func(v []byte) error {
		cs := &raftpb.ConfState{}
		if err := proto.Unmarshal(v, cs); err != nil {
			return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		b, err := encodeConfState(cs)
		if err != nil {
			return err
		}
		return put(bucketMeta, []byte(metaConfState), b)
	})
	if err != nil {
		return err
	}
	if err := put(bucketMeta, []byte(metaIndex), encodeNumber(c.Index)); err != nil {
		return err
	}
	if err := c.compaction(put); err != nil {
		return err
	}
	if c.ClusterVersion != "" {
		if err := put(bucketMeta, []byte(metaStorage), []byte(c.ClusterVersion)); err != nil {
			return err
		}
	}
	return put(bucketMeta, []byte(metaTerm), encodeNumber(c.Term))
}

// Compacted returns the revision to which the state is compacted, negative for never.
func (c *Content) Compacted() (int64, error) {
	target, _, err := c.compacted()
	return target, err
}

// compaction says to where the state is compacted. A compaction that is under way is one that was scheduled and has
// not finished: etcd does it again when it opens the file. To 0, where there is nothing, it would not: that one has always finished.
func (c *Content) compaction(put sink) error {
	target, finished, err := c.compacted()
	if err != nil {
		return err
	}
	if target == 0 {
		finished = 0
	}
	if finished = min(finished, target); finished >= 0 {
		err = put(bucketMeta, []byte(metaFinished), appendRevision(nil, Revision{Main: finished}))
	}
	if err == nil && target >= 0 {
		err = put(bucketMeta, []byte(metaScheduled), appendRevision(nil, Revision{Main: target}))
	}
	return err
}

// compacted returns to where the state is compacted, and how far that has come.
func (c *Content) compacted() (target, finished int64, err error) {
	var scheduled, done []byte
	for name, into := range map[string]*[]byte{"compactScheduled": &scheduled, "compactDone": &done} {
		err := c.meta(name, func(v []byte) error { *into = append([]byte{}, v...); return nil })
		if err != nil {
			return 0, 0, err
		}
	}
	return mvcc.DecodeCompaction(scheduled, done)
}
