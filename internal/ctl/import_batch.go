package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// importBatch is what one transaction writes.
type importBatch struct {
	ops    []clientv3.Op
	keys   []string
	bytes  int
	leases []clientv3.LeaseID
	safe   int64  // the offset of what follows its last key
	sum    uint32 // of what is before that
	line   int64  // of its last key

	done   chan struct{} // closed when what follows is set
	answer *clientv3.TxnResponse
	err    error
}

// batchError is about a batch that was begun some lines before.
type batchError struct {
	line int64
	err  error
}

func (e *batchError) Error() string {
	return fmt.Sprintf("writing the batch that ends with line %d: %v", e.line, e.err)
}

func (e *batchError) Unwrap() error { return e.err }

func (b *importBatch) add(key string, op clientv3.Op, bytes int, lease clientv3.LeaseID) {
	b.ops, b.keys, b.bytes = append(b.ops, op), append(b.keys, key), b.bytes+bytes
	if lease != 0 {
		b.leases = append(b.leases, lease)
	}
}

// makeRoom begins the batch when a key does not go into it any more. A key that is in it, or under way, waits for all of them: the
// later line of a file counts.
func (m *importer) makeRoom(ctx context.Context, key string, bytes int) error {
	b := m.batch
	if _, twice := m.keys[key]; twice {
		return errors.Join(m.begin(ctx), m.settle(ctx, 0))
	}
	if len(b.ops) > 0 && (len(b.ops) >= m.flags.batch || b.bytes+bytes > importBatchBytes) {
		return m.begin(ctx)
	}
	return nil
}

// begin begins to write the batch, once fewer than importsMax are under way.
func (m *importer) begin(ctx context.Context) error {
	b := m.batch
	if len(b.ops) == 0 {
		return nil
	}
	if err := m.settle(ctx, importsMax-1); err != nil {
		return err
	}
	if err := m.pace(ctx); err != nil {
		return err
	}
	m.begun += int64(len(b.ops))
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		b.answer, b.err = m.commit(ctx, b)
	}()
	m.sent, m.batch = append(m.sent, b), &importBatch{}
	return nil
}

// settle waits until at most so many batches are under way. They end in the order in which they began: after each the mark, beside the
// export, says that all before are written. The first that fails ends it, when all have ended.
func (m *importer) settle(ctx context.Context, most int) (err error) {
	for len(m.sent) > 0 && (len(m.sent) > most || err != nil) {
		b := m.sent[0]
		<-b.done
		m.sent = m.sent[1:]
		if err == nil {
			err = m.end(ctx, b)
		}
	}
	return err
}

// end takes the answer to a batch.
func (m *importer) end(ctx context.Context, b *importBatch) error {
	if errors.Is(b.err, rpctypes.ErrLeaseNotFound) { // it ended while others of its keys were written
		if b.err = m.grantAgain(ctx, b); b.err == nil {
			b.answer, b.err = m.commit(ctx, b)
		}
	}
	if b.err != nil {
		return &batchError{b.line, b.err}
	}
	for _, one := range b.answer.Responses {
		if t := one.GetResponseTxn(); t != nil && !t.GetSucceeded() {
			m.left++
		} else {
			m.written++
		}
	}
	for _, key := range b.keys {
		delete(m.keys, key)
	}
	m.bar.Reach(b.safe)
	if m.mark == nil {
		return nil
	}
	return m.mark.set(b.safe, b.sum)
}

func (m *importer) commit(ctx context.Context, b *importBatch) (*clientv3.TxnResponse, error) {
	ctx, cancel := m.s.request(ctx)
	defer cancel()
	return m.client.Txn(ctx).Then(b.ops...).Commit()
}

// pace waits until the keys of the batches begun so far are no more than the rate allows.
func (m *importer) pace(ctx context.Context) error {
	if m.flags.rate == 0 {
		return nil
	}
	due := m.start.Add(time.Duration(float64(m.begun) / float64(m.flags.rate) * float64(time.Second)))
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exportedLease reads the id of a lease in a line.
func exportedLease(text string) (clientv3.LeaseID, error) {
	id, err := leaseID(text)
	if err != nil || id <= 0 {
		return 0, fmt.Errorf("%q is no lease", text)
	}
	return id, nil
}

// lease grants a lease of the export.
func (m *importer) lease(ctx context.Context, l *exportLine) error {
	id, err := exportedLease(l.Lease)
	if err != nil {
		return err
	}
	if m.ttl == nil || len(m.ttl) >= knownLeasesMax {
		m.ttl = map[clientv3.LeaseID]int64{}
	}
	m.ttl[id] = l.Granted
	return m.grant(ctx, id, l.Granted)
}

// grant grants a lease by its id, so that another run finds it again. One that is there is taken.
func (m *importer) grant(ctx context.Context, id clientv3.LeaseID, ttl int64) error {
	ctx, cancel := m.s.request(ctx)
	defer cancel()
	_, err := clientv3.RetryLeaseClient(m.client).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(id), TTL: ttl})
	if err = rpctypes.Error(err); err != nil && !errors.Is(err, rpctypes.ErrLeaseExist) {
		return fmt.Errorf("granting lease %016x: %w", int64(id), err)
	}
	return nil
}

// grantAgain grants the leases of a batch that have ended.
func (m *importer) grantAgain(ctx context.Context, b *importBatch) error {
	for _, id := range b.leases {
		ttl, ok := m.ttl[id]
		if !ok {
			return fmt.Errorf("lease %016x: %w, and the export does not tell it", int64(id), rpctypes.ErrLeaseNotFound)
		}
		if err := m.grant(ctx, id, ttl); err != nil {
			return err
		}
	}
	return nil
}

// endsExport tells whether the end of a file is that of an export.
func endsExport(tail []byte) bool {
	text := strings.TrimRight(string(tail), "\n")
	if len(text) == len(tail) {
		return false
	}
	last := text[strings.LastIndexByte(text, '\n')+1:]
	var end exportEnd
	return json.Unmarshal([]byte(last), &end) == nil && end.End
}

// importMark is how far an import is, in a file beside the export.
type importMark struct {
	name string

	Size    int64  `json:"size"`          // of the export, to tell it from another one
	Cluster string `json:"cluster"`       // that is written to
	Offset  int64  `json:"offset"`        // what stands before it is written
	Sum     uint32 `json:"sum,omitempty"` // CRC-32C of that; 0 where an earlier release began
}

// openImportMark begins a mark, or with resume takes up the one of an earlier run.
func openImportMark(export *os.File, size int64, cluster string, resume bool) (*importMark, error) {
	m := &importMark{name: export.Name() + ".progress", Size: size, Cluster: cluster}
	b, err := os.ReadFile(m.name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && resume:
		return nil, fmt.Errorf("there is no %s to go on with", m.name)
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case err != nil:
		return nil, fmt.Errorf("reading how far an earlier import was: %w", err)
	case !resume:
		return nil, fmt.Errorf("%s is there from an import that did not finish: go on with --resume, or remove it", m.name)
	}
	var old importMark
	if err := json.Unmarshal(b, &old); err != nil {
		return nil, fmt.Errorf("reading %s: %w", m.name, err)
	}
	if old.Size != size || old.Offset < 0 || old.Offset > size {
		return nil, fmt.Errorf("%s was written for another file of that name", m.name)
	}
	if old.Cluster != cluster {
		return nil, fmt.Errorf("%s was written for the cluster %s, and this is %s", m.name, old.Cluster, cluster)
	}
	if same, err := old.of(export); err != nil {
		return nil, fmt.Errorf("reading what was imported: %w", err)
	} else if !same {
		return nil, fmt.Errorf("%s was written for another file of that name", m.name)
	}
	m.Offset, m.Sum = old.Offset, old.Sum
	return m, nil
}

// of tells whether what was written is the beginning of the export.
func (m *importMark) of(export io.ReaderAt) (bool, error) {
	if m.Sum == 0 {
		return true, nil
	}
	sum := crc32.New(castagnoli)
	_, err := io.Copy(sum, io.NewSectionReader(export, 0, m.Offset))
	return sum.Sum32() == m.Sum, err
}

// set renames a new mark over the old one, so that there is always one that is whole.
func (m *importMark) set(offset int64, sum uint32) error {
	m.Offset, m.Sum = offset, sum
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding how far the import is: %w", err)
	}
	if err := replaceFile(m.name, append(b, '\n')); err != nil {
		return fmt.Errorf("writing how far the import is: %w", err)
	}
	return nil
}

// replaceFile puts b in place of a file, which is there as it was or as it shall be after a crash at any instant.
func replaceFile(name string, b []byte) (err error) {
	file, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(name))
}

// remove ends the mark: everything is written.
func (m *importMark) remove() error {
	if err := os.Remove(m.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the mark of the import: %w", err)
	}
	return nil
}
