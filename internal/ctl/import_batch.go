package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// flush writes the batch and then, beside the export, how far it is. Ended between the two, the next run
// writes this one batch again.
func (m *importer) flush(ctx context.Context) error {
	if len(m.batch) == 0 {
		return nil
	}
	if err := m.pace(ctx); err != nil {
		return err
	}
	r, err := m.commit(ctx)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) { // it ended while others of its keys were written
		if err = m.grantAgain(ctx); err == nil {
			r, err = m.commit(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("writing a batch: %w", err)
	}
	for _, one := range r.Responses {
		if t := one.GetResponseTxn(); t != nil && !t.GetSucceeded() {
			m.left++
		} else {
			m.written++
		}
	}
	m.bar.add(m.safe - m.bar.done)
	m.batch, m.batchLeases, m.batchBytes = m.batch[:0], m.batchLeases[:0], 0
	if m.mark == nil {
		return nil
	}
	return m.mark.set(m.safe)
}

func (m *importer) commit(ctx context.Context) (*clientv3.TxnResponse, error) {
	ctx, cancel := m.s.request(ctx)
	defer cancel()
	return m.client.Txn(ctx).Then(m.batch...).Commit()
}

// pace waits until the keys written so far, and this batch, are no more than the rate allows.
func (m *importer) pace(ctx context.Context) error {
	if m.flags.rate == 0 {
		return nil
	}
	due := m.start.Add(time.Duration(float64(m.written+m.left) / float64(m.flags.rate) * float64(time.Second)))
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

// grantAgain grants the leases of the batch that have ended.
func (m *importer) grantAgain(ctx context.Context) error {
	for _, id := range m.batchLeases {
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

	Size    int64  `json:"size"`    // of the export, to tell it from another one
	Cluster string `json:"cluster"` // that is written to
	Offset  int64  `json:"offset"`  // what stands before it is written
}

// openImportMark begins a mark, or with resume takes up the one of an earlier run.
func openImportMark(export string, size int64, cluster string, resume bool) (*importMark, error) {
	m := &importMark{name: export + ".progress", Size: size, Cluster: cluster}
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
	m.Offset = old.Offset
	return m, nil
}

// set renames a new mark over the old one, so that there is always one that is whole.
func (m *importMark) set(offset int64) error {
	m.Offset = offset
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding how far the import is: %w", err)
	}
	if err := os.WriteFile(m.name+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing how far the import is: %w", err)
	}
	if err := os.Rename(m.name+".new", m.name); err != nil {
		return fmt.Errorf("writing how far the import is: %w", err)
	}
	return nil
}

// remove ends the mark: everything is written.
func (m *importMark) remove() error {
	if err := os.Remove(m.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the mark of the import: %w", err)
	}
	return nil
}
