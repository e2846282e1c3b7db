// Package server assembles a member: it opens storage and listeners and starts and stops them in order.
package server

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// Run runs a member until ctx is cancelled or the member fails. It returns nil after a graceful stop.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	return errors.New("not assembled yet")
}
