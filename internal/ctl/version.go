package ctl

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/commands"
)

func (s *session) versionCommand() *cobra.Command {
	return s.withoutSettings(commands.Version("etcdctl", s.Stdout))
}

func (s *session) completionCommand(root *cobra.Command) *cobra.Command {
	return s.withoutSettings(commands.Completion(root, s.Stdout, wrongUse))
}

// withoutSettings makes a command of both tools one of the client that needs no settings.
func (s *session) withoutSettings(c *cobra.Command) *cobra.Command {
	c.PersistentPreRunE = noEnvironment
	run := c.RunE
	c.RunE = s.run(func(_ context.Context, args []string) error { return run(c, args) })
	return c
}
