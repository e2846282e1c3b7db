package ctl

import (
	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/commands"
)

// versionCommand needs no settings.
func (s *session) versionCommand() *cobra.Command {
	c := commands.Version("etcdctl", s.Stdout)
	c.PersistentPreRunE = noEnvironment
	return c
}

// completionCommand needs none either.
func (s *session) completionCommand(root *cobra.Command) *cobra.Command {
	c := commands.Completion(root, s.Stdout, wrongUse)
	c.PersistentPreRunE = noEnvironment
	return c
}
