package ctl

import (
	"fmt"
	"strconv"
	"strings"
)

// words splits a line of input as a simple shell would: blanks separate, single and double quotes group, and Go's
// escapes count within double quotes. A quote that is never closed is left out, as in etcdctl.
func words(line string) []string {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if word, rest, ok := quoted(line); ok {
			out, line = append(out, word), rest
			continue
		}
		if line[0] == '"' || line[0] == '\'' {
			line = line[1:]
			continue
		}
		end := strings.IndexAny(line, " \t\r\n")
		if end < 0 {
			end = len(line)
		}
		out, line = append(out, line[:end]), line[end:]
	}
	return out
}

// quoted takes a quoted word off the beginning of a line.
func quoted(line string) (word, rest string, ok bool) {
	switch line[0] {
	case '"':
		q, err := strconv.QuotedPrefix(line)
		if err != nil {
			return "", line, false
		}
		word, err = strconv.Unquote(q)
		return word, line[len(q):], err == nil
	case '\'':
		end := strings.IndexByte(line[1:], '\'')
		if end < 0 {
			return "", line, false
		}
		return line[1 : 1+end], line[end+2:], true
	}
	return "", line, false
}

// counted spells a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// answering spells how many members there are, and how many of them answer.
func answering(members, answer int) string {
	verb := "answer"
	if answer == 1 {
		verb = "answers"
	}
	return fmt.Sprintf("%s, %d %s", counted(members, "member"), answer, verb)
}
