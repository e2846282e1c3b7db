package server

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestARemovedMemberEndsWithoutAnError starts a member in whose state its removal stands: whoever restarts what fails leaves
// it be.
func TestARemovedMemberEndsWithoutAnError(t *testing.T) {
	t.Parallel()
	cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
	r := run(t, cfg)
	members, err := r.client(t).MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.end(t)

	db, err := storage.OpenState(storage.StateDir(cfg.DataDir, 1), storage.Options{
		Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := cluster.Load(db)
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	err = m.Begin(b).Remove(cluster.ID(members.Members[0].ID))
	if err = errors.Join(err, db.Commit(b), b.Close(), db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	if err := Run(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if !strings.Contains(log.String(), "permanently removed from the cluster") || !strings.Contains(log.String(), cfg.DataDir) {
		t.Errorf("the log says %s", log.String())
	}
}
