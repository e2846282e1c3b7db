package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/version"
)

// versionCommand prints the level of etcd's client that this one stands for; scripts read it.
func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of etcdctl", PersistentPreRunE: noEnvironment,
		RunE: s.run(func(context.Context, []string) error {
			api := version.Etcd[:strings.LastIndexByte(version.Etcd, '.')]
			_, err := fmt.Fprintf(s.Stdout, "etcdctl version: %s\nAPI version: %s\n", version.Etcd, api)
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
		DisableFlagsInUseLine: true, ValidArgs: []string{"bash", "zsh", "fish", "powershell"}, PersistentPreRunE: noEnvironment,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return wrongUse(err)
			}
			return nil
		},
		RunE: s.run(func(_ context.Context, args []string) error { return shells[args[0]](s.Stdout) }),
	}
}
