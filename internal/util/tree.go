package util

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/commands"
)

// lockTimeout is how long a database that another process has open is waited for, unless --timeout says otherwise.
const lockTimeout = 10 * time.Second

// tree returns all commands.
func (s *session) tree() *cobra.Command {
	name, _, _ := strings.Cut(s.Program, " ")
	root := &cobra.Command{Use: name, Short: "The offline tool for files of Ashlar and etcd.", SilenceErrors: true, SilenceUsage: true}
	if name != s.Program {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: s.Program}
	}
	root.SetOut(s.Stdout)
	root.SetErr(s.Stderr)
	f := root.PersistentFlags()
	f.StringVarP(&s.format, "write-out", "w", "simple", "output format (fields, json, protobuf, simple, table)")
	f.DurationVar(&s.timeout, "timeout", lockTimeout, "time to wait for a database that another process has open (0: no limit)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongUse(err) })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(s.snapshotCommand(), s.hashKVCommand(), s.defragCommand(), s.migrateCommand(), s.verifyCommand(),
		s.backupCommand(), s.restoreCommand(),
		commands.Completion(root, s.Stdout, wrongUse), commands.Version("etcdutl", s.Stdout))
	return root
}

// action is what a command does after its arguments were split from its flags.
type action func(ctx context.Context, args []string) error

func run(a action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return a(cmd.Context(), args) }
}

// exactly makes a wrong number of arguments a mistake with the usage below it.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return wrongUse(err)
		}
		return nil
	}
}

func (s *session) snapshotCommand() *cobra.Command {
	c := &cobra.Command{Use: "snapshot <subcommand>", Short: "Manages snapshots of members"}
	c.AddCommand(s.snapshotStatusCommand(), s.snapshotRestoreCommand())
	return c
}
