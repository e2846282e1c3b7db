package v3client_test

import (
	"context"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/embed"
	"github.com/ashlar-kv/ashlar/embed/v3client"
)

// TestAClientOfAServer writes and reads at a member that listens nowhere.
func TestAClientOfAServer(t *testing.T) {
	t.Parallel()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogOutputs, cfg.LogLevel = t.TempDir(), []string{embed.StdErrLogOutput}, "error"
	cfg.ListenClientUrls, cfg.ListenPeerUrls = nil, nil
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c := v3client.New(e.Server)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(ctx, "k"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Errorf("%v, %v", got, err)
	}
}
