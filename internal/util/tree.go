package util

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/version"
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
		s.completionCommand(root), s.versionCommand())
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

// versionCommand prints the level of etcd's tool that this one stands for; scripts read it.
func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of etcdutl",
		RunE: run(func(context.Context, []string) error {
			api := version.Etcd[:strings.LastIndexByte(version.Etcd, '.')]
			_, err := fmt.Fprintf(s.Stdout, "etcdutl version: %s\nAPI version: %s\n", version.Etcd, api)
			return err
		}),
	}
}

// completionCommand prints the script that makes a shell complete our commands.
func (s *session) completionCommand(root *cobra.Command) *cobra.Command {
	shells := map[string]func(io.Writer) error{
		"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":        root.GenZshCompletion,
		"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": root.GenPowerShellCompletionWithDesc,
	}
	check := cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)
	return &cobra.Command{Use: "completion [bash|zsh|fish|powershell]", Short: "Prints a script that makes a shell complete commands",
		DisableFlagsInUseLine: true, ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args: func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return wrongUse(err)
			}
			return nil
		},
		RunE: run(func(_ context.Context, args []string) error { return shells[args[0]](s.Stdout) }),
	}
}
