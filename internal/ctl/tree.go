package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// tree returns all commands.
func (s *session) tree() *cobra.Command {
	name, _, _ := strings.Cut(s.Program, " ")
	root := &cobra.Command{Use: name, Short: "The client of an Ashlar or etcd cluster.",
		SilenceErrors: true, SilenceUsage: true,
		// Arguments and flags have been read; nothing was done yet.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.readEnvironment(cmd) },
	}
	if name != s.Program {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: s.Program}
	}
	root.SetIn(s.Stdin)
	root.SetOut(s.Stdout)
	root.SetErr(s.Stderr)
	s.settings.define(root.PersistentFlags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongUse(err) })
	root.SetUsageTemplate(usageTemplate)
	root.CompletionOptions.DisableDefaultCmd = true

	root.AddGroup(&cobra.Group{ID: "keys", Title: "Keys:"}, &cobra.Group{ID: "cluster", Title: "Cluster:"},
		&cobra.Group{ID: "concurrency", Title: "Concurrency:"}, &cobra.Group{ID: "auth", Title: "Authentication:"},
		&cobra.Group{ID: "tool", Title: "Tools:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
		}
		root.AddCommand(commands...)
	}
	get := s.getCommand()
	if s.Program != etcdctl {
		get = s.ownGetCommand()
		root.AddGroup(&cobra.Group{ID: "own", Title: "Beyond etcdctl:"})
		add("own", s.ownCommands()...)
	}
	add("keys", get, s.putCommand(), s.delCommand(), s.txnCommand(), s.watchCommand(),
		s.leaseCommand(), s.compactionCommand())
	add("cluster", s.memberCommand(), s.endpointCommand(), s.alarmCommand(), s.defragCommand(), s.moveLeaderCommand(),
		s.snapshotCommand(), s.downgradeCommand())
	add("concurrency", s.lockCommand(), s.electCommand())
	add("auth", s.authCommand(), s.userCommand(), s.roleCommand())
	add("tool", s.checkCommand(), s.mirrorCommand(), s.completionCommand(root), s.versionCommand(), s.optionsCommand(root))
	root.SetHelpCommand(s.helpCommand(root))
	root.SetHelpCommandGroupID("tool")
	root.InitDefaultHelpFlag() // or --help takes the next argument for its own
	return root
}

// usageTemplate leaves the global flags to the options command. Its first word is what scripts look for.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if gt (len .Aliases) 0}}

Aliases:
  {{.NameAndAliases}}{{end}}{{if .HasAvailableSubCommands}}{{$commands := .Commands}}{{if eq (len .Groups) 0}}

Commands:{{range $commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{else}}{{range $group := .Groups}}

{{.Title}}{{range $commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}{{if .HasParent}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{end}}

Use "{{.Root.CommandPath}} options" for the flags that all commands have.
`

// helpCommand prints the help of a command. An unknown one is a mistake that costs nothing: status 0, as in etcdctl.
func (s *session) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [command]", Short: "Prints the help of a command",
		PersistentPreRunE: noEnvironment,
		RunE: func(_ *cobra.Command, args []string) error {
			found, _, err := root.Find(args)
			if found == nil || err != nil {
				fmt.Fprintf(s.Stderr, "Unknown help topic %#q\n%s\n", args, root.UsageString())
				return nil
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// noEnvironment is for commands that need no settings.
func noEnvironment(*cobra.Command, []string) error { return nil }

// optionsCommand prints the global flags.
func (s *session) optionsCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "options", Short: "Prints the flags that all commands have", PersistentPreRunE: noEnvironment,
		RunE: s.run(func(context.Context, []string) error {
			_, err := fmt.Fprintf(s.Stdout, "The following options can be passed to any command:\n\n%s",
				root.PersistentFlags().FlagUsages())
			return err
		}),
	}
}
