package ctl

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// errBufferFull is what a reader says of a line longer than its buffer.
var errBufferFull = bufio.ErrBufferFull

const (
	// completionKeysMax is how many keys are asked for to complete one.
	completionKeysMax = 100
	// completionShown is how many candidates are listed.
	completionShown = 40
)

// keyed are the commands whose arguments are keys or prefixes.
var keyed = map[string]bool{"get": true, "put": true, "del": true, "watch": true, "history": true, "du": true, "export": true,
	"lock": true, "elect": true}

// complete completes the word before the cursor, and lists what there is when nothing can be added.
func (h *shell) complete(ctx context.Context, t io.Writer, line string, pos int) (string, int, bool) {
	before, after := line[:pos], line[pos:]
	start := strings.LastIndexAny(before, " \t") + 1
	word := before[start:]
	found := h.candidates(ctx, strings.Fields(before[:start]), word)
	if len(found) == 0 {
		return "", 0, false
	}
	added := commonPrefix(found)
	switch {
	case len(found) == 1 && !strings.HasSuffix(added, "/") && !strings.HasSuffix(added, "="):
		added += " "
	case len(found) > 1 && len(added) <= len(word):
		shownNow := found[:min(len(found), completionShown)]
		list := strings.Join(shownNow, "  ")
		if len(found) > len(shownNow) {
			list += "  …"
		}
		fmt.Fprintln(t, list)
		return "", 0, false
	}
	return before[:start] + added + after, start + len(added), true
}

// candidates returns what a word can become after those words.
func (h *shell) candidates(ctx context.Context, words []string, word string) []string {
	if len(words) > 0 && keyed[words[0]] && !strings.HasPrefix(word, "-") {
		return h.keys(ctx, word)
	}
	if _, _, err := newSession(h.s.Process).tree().Find(words); err != nil {
		return nil // the library would complain to the process's standard error
	}
	var found []string
	if len(words) == 0 {
		if strings.HasPrefix("exit", word) {
			found = append(found, "exit")
		}
	}
	var out bytes.Buffer
	args := append(append([]string{cobra.ShellCompRequestCmd}, words...), word)
	h.execute(ctx, args, &out, io.Discard)
	for _, l := range strings.Split(out.String(), "\n") {
		name, _, _ := strings.Cut(l, "\t")
		if name != "" && !strings.HasPrefix(name, ":") && strings.HasPrefix(name, word) {
			found = append(found, name)
		}
	}
	return found
}

// keys returns keys that begin with word, each cut after the next slash, as directories are. Few are asked for: behind
// each that has a slash the rest is jumped over. What cannot be typed is left out.
func (h *shell) keys(ctx context.Context, word string) []string {
	ctx, cancel := h.s.request(ctx)
	defer cancel()
	from, end := word, clientv3.GetPrefixRangeEnd(word)
	if word == "" {
		from, end = "\x00", "\x00"
	}
	var found []string
	for range completionKeysMax {
		r, err := h.s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly(), clientv3.WithSerializable())
		if err != nil || len(r.Kvs) == 0 {
			break
		}
		key := string(r.Kvs[0].GetKey())
		next := key + "\x00"
		if i := strings.IndexByte(key[len(word):], '/'); i >= 0 && len(word)+i+1 < len(key) {
			key = key[:len(word)+i+1]
			next = clientv3.GetPrefixRangeEnd(key)
		}
		if printable([]byte(key), false) && !strings.ContainsAny(key, " '\"") {
			found = append(found, key)
		}
		if from = next; end != "\x00" && from >= end {
			break
		}
	}
	return found
}

// commonPrefix returns what all words begin with.
func commonPrefix(words []string) string {
	p := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, p) {
			p = p[:len(p)-1]
		}
	}
	return p
}
