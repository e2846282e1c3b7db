package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"

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
	root.SetUsageFunc(usage)
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

// usage tells how a command is used, and leaves the global flags to the options command. Its first word is what scripts look for. A template would
// say it, too, but the linker keeps every method of a program that carries one out.
func usage(c *cobra.Command) error {
	local := c.LocalFlags() // from here on the command knows of the global ones, too, and its line tells that there are flags
	var b strings.Builder
	b.WriteString("Usage:")
	if c.Runnable() {
		fmt.Fprintf(&b, "\n  %s", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n  %s [command]", c.CommandPath())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "\n\nAliases:\n  %s", c.NameAndAliases())
	}
	if c.HasAvailableSubCommands() {
		groups := c.Groups()
		if len(groups) == 0 {
			groups = []*cobra.Group{{Title: "Commands:"}}
		}
		for _, g := range groups {
			fmt.Fprintf(&b, "\n\n%s", g.Title)
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() && (g.ID == "" || sub.GroupID == g.ID) {
					fmt.Fprintf(&b, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
				}
			}
		}
	}
	if c.HasParent() && local.HasAvailableFlags() {
		fmt.Fprintf(&b, "\n\nFlags:\n%s", strings.TrimRightFunc(local.FlagUsages(), unicode.IsSpace))
	}
	fmt.Fprintf(&b, "\n\nUse %q for the flags that all commands have.\n", c.Root().CommandPath()+" options")
	_, err := io.WriteString(c.OutOrStderr(), b.String())
	return err
}

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
