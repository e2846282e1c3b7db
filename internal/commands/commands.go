// Package commands has the commands that the client and the offline tool have alike.
package commands

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/version"
)

// Version returns the command that prints the level of etcd's program, by its name, that this one stands for; scripts read it.
func Version(program string, out io.Writer) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of " + program,
		RunE: func(*cobra.Command, []string) error {
			api := version.Etcd[:strings.LastIndexByte(version.Etcd, '.')]
			_, err := fmt.Fprintf(out, "%s version: %s\nAPI version: %s\n", program, version.Etcd, api)
			return err
		},
	}
}

// Completion returns the command that prints the script that makes a shell complete the commands below root. Arguments that it does not take
// give the error that wrongUse makes of cobra's.
func Completion(root *cobra.Command, out io.Writer, wrongUse func(error) error) *cobra.Command {
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
		RunE: func(_ *cobra.Command, args []string) error { return shells[args[0]](out) },
	}
}
