package ctl

import (
	"slices"

	"github.com/spf13/cobra"
)

// etcdctl is the program's name when it stands for etcdctl. It then has etcdctl's commands and flags and no others.
const etcdctl = "etcdctl"

// answerBytesMax is the largest answer that the own commands take; scans ask for less when one is larger.
const answerBytesMax = 64 << 20

// ownCommands returns the commands that etcdctl has not.
func (s *session) ownCommands() []*cobra.Command {
	commands := []*cobra.Command{s.historyCommand(), s.diffCommand(), s.duCommand(), s.exportCommand(), s.importCommand(),
		s.topCommand(), s.doctorCommand(), s.shellCommand()}
	for _, c := range commands {
		c.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { // in place of the root's
			if err := s.readEnvironment(cmd); err != nil {
				return err
			}
			if s.settings.maxRecvBytes == 0 {
				s.settings.maxRecvBytes = answerBytesMax
			}
			return nil
		}
	}
	return commands
}

// forms fails for a --write-out that is not among the ones a command has.
func (s *session) forms(have ...string) error {
	if err := s.choosePrinter(); err != nil {
		return err
	}
	if !slices.Contains(have, s.settings.format) {
		return notSupported(s.settings.format)
	}
	return nil
}
