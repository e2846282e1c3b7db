package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// askPassword prints a prompt and reads a line, which a terminal does not show. The end of the input is an empty
// password.
func (s *session) askPassword(prompt string) (string, error) {
	fmt.Fprint(s.Stdout, prompt)
	if f, ok := s.Stdin.(*os.File); ok {
		if restore := hideInput(f); restore != nil {
			defer restore()
		}
	}
	line, err := s.inputLine()
	fmt.Fprintln(s.Stdout)
	return line, err
}

// newPassword reads a password to set: twice with interactive, else the first word of one line.
func (s *session) newPassword(user string, interactive bool) (string, error) {
	if !interactive {
		line, err := s.inputLine()
		first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		return first, err
	}
	first, err := s.askPassword(fmt.Sprintf("Password of %s: ", user))
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", badArguments("empty password")
	}
	again, err := s.askPassword(fmt.Sprintf("Type password of %s again for confirmation: ", user))
	if err != nil {
		return "", err
	}
	if first != again {
		return "", badArguments("given passwords are different")
	}
	return first, nil
}

// inputLine returns one line of standard input without its end; what follows it stays for the next call.
func (s *session) inputLine() (string, error) {
	line, err := s.input.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading standard input: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
