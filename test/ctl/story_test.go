package ctl

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the stories in testdata")

func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &teller{t: t, member: startMember(t), program: "etcdctl", dir: t.TempDir()}
			if strings.HasPrefix(filepath.Base(file), "own-") {
				s.program = "ashlar ctl"
			}
			got := s.tell(string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			compareLines(t, file, got, string(want))
		})
	}
}

// compareLines reports the first line that differs, with its number.
func compareLines(t *testing.T, file, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			from := max(0, i-3)
			t.Errorf("%s:%d: got\n%s\nwant\n%s", file, i+1, strings.Join(g[min(from, len(g)):min(i+8, len(g))], "\n"),
				strings.Join(w[min(from, len(w)):min(i+8, len(w))], "\n"))
			return
		}
	}
}

// teller runs a story and writes it down as it went.
type teller struct {
	t      *testing.T
	member member
	// program is the name that commands are called by.
	program string
	dir     string
	lease   string
	out     strings.Builder
}

func (s *teller) tell(story string) string {
	var command string
	var input strings.Builder
	flush := func() {
		if command != "" {
			s.run(command, input.String())
		}
		command = ""
		input.Reset()
	}
	for _, line := range strings.Split(strings.TrimSuffix(story, "\n"), "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "$":
			flush()
			command = rest
			s.out.WriteString(line + "\n")
		case "<":
			input.WriteString(rest + "\n")
			s.out.WriteString(line + "\n")
		case "|", "!", "exit": // what was printed last time
		default:
			flush()
			s.out.WriteString(line + "\n")
		}
	}
	flush()
	return s.out.String()
}

// commandMax is more than any command of a story takes.
const commandMax = 5 * time.Minute

func (s *teller) run(command, input string) {
	var environ, args []string
	for _, w := range splitWords(s.t, strings.NewReplacer("{lease}", s.lease, "{dir}", s.dir).Replace(command)) {
		if len(args) == 0 && strings.HasPrefix(w, "ETCDCTL_") {
			environ = append(environ, w)
		} else {
			args = append(args, w)
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), commandMax)
	defer cancel()
	got := s.member.runAs(ctx, s.program, environ, strings.NewReader(input), args...)
	if ctx.Err() != nil {
		s.t.Errorf("%s: it does not end", command)
	}
	if m := granted.FindStringSubmatch(got.stdout); m != nil {
		s.lease = m[1]
	}
	s.write("|", got.stdout)
	s.write("!", got.stderr)
	if got.status != 0 {
		fmt.Fprintf(&s.out, "exit %d\n", got.status)
	}
}

func (s *teller) write(mark, text string) {
	if text == "" {
		return
	}
	for _, line := range strings.Split(strings.TrimSuffix(s.hide(text), "\n"), "\n") {
		if strings.HasPrefix(line, `{"level":`) {
			continue
		}
		s.out.WriteString(strings.TrimRight(mark+" "+line, " ") + "\n")
		if strings.HasPrefix(line, "Usage:") {
			return // help may change its words
		}
	}
}

var granted = regexp.MustCompile(`lease ([0-9a-f]{16}) granted`)

// hidden are parts of the output that differ from run to run.
var hidden = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "{address}"},
	{regexp.MustCompile(`(took = |"took":"|"Took" : |took )[0-9.a-zµ]+`), "$1{time}"},
	{regexp.MustCompile(`remaining\(\d+s\)`), "remaining({time})"},
	{regexp.MustCompile(`"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+`), `"$1":{number}`},
	{regexp.MustCompile(`"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : \d+`), `"$1" : {number}`},
	{regexp.MustCompile(`("TTL" : |"ttl":)5\d\d`), "${1}{seconds}"},
	{regexp.MustCompile(`\d{15,20}|\b[0-9a-f]{12,16}\b`), "{id}"},
	{regexp.MustCompile(`Member +`), "Member "},
	{regexp.MustCompile(`(ETCD_INITIAL_CLUSTER=).*`), "$1{members}"}, // in the order of their ids
	{regexp.MustCompile(`, [^,]*B, [^,]*B, \d+%, (.*?), (true|false), (true|false), \d+, \d+, \d+, `),
		", {size}, {size}, {part}, $1, $2, $3, {number}, {number}, {number}, "},
}

func (s *teller) hide(text string) string {
	text = strings.ReplaceAll(text, s.dir, "{dir}")
	for _, h := range hidden {
		text = h.what.ReplaceAllString(text, h.name)
	}
	return text
}

// splitWords splits a command; double quotes group and know Go's escapes.
func splitWords(t *testing.T, command string) []string {
	t.Helper()
	var out []string
	for command = strings.TrimSpace(command); command != ""; command = strings.TrimSpace(command) {
		if command[0] != '"' {
			word, rest, _ := strings.Cut(command, " ")
			out, command = append(out, word), rest
			continue
		}
		q, err := strconv.QuotedPrefix(command)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		word, err := strconv.Unquote(q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		out, command = append(out, word), command[len(q):]
	}
	return out
}
