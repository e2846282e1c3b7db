package snapshot

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestAStreamReadsLargeValuesOnce: where data names them, and not again where they lie. What lies behind them is sent.
func TestAStreamReadsLargeValuesOnce(t *testing.T) {
	t.Parallel()
	db, err := storage.OpenState("state", storage.Options{FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	if err := b.Set(storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("applied")), []byte("the end"), nil); err != nil {
		t.Fatal(err)
	}
	const versions, size = 20, 100_000
	for rev := range int64(versions) {
		raw, err := proto.Marshal(&mvccpb.KeyValue{
			Key: []byte("k"), CreateRevision: 1, ModRevision: rev + 1, Version: rev + 1, Value: make([]byte, size),
		})
		if err := errors.Join(err, mvcc.StoreVersion(b, storage.AppendDataKey(nil, []byte("k"), rev+1, 0), raw)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Commit(b), b.Close(), db.Flush()); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(db)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil || len(out) < versions*size || !bytes.Contains(out, []byte("the end")) {
		t.Errorf("%d bytes are sent: %v", len(out), err)
	}
	walk := r.it.Stats()
	if n := walk.InternalStats.BlockBytes; n > 2*size {
		t.Errorf("the walk over all records reads %d bytes", n)
	}
	if err := errors.Join(r.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}
