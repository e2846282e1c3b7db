package kube

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// render writes a message as a YAML document.
func render(entries []entry) string {
	var b strings.Builder
	writeEntries(&b, entries, "")
	return b.String()
}

func writeEntries(b *strings.Builder, entries []entry, indent string) {
	for _, e := range entries {
		b.WriteString(indent + scalar(e.name) + ":")
		writeValue(b, e.value, indent)
	}
}

// writeValue writes what follows a name or a dash.
func writeValue(b *strings.Builder, value any, indent string) {
	switch v := value.(type) {
	case *node:
		if len(v.entries) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		writeEntries(b, v.entries, indent+"  ")
	case list:
		b.WriteString("\n")
		for _, item := range v {
			b.WriteString(indent + "-")
			if n, ok := item.(*node); ok && len(n.entries) > 0 {
				// The first field stands beside the dash, as kubectl writes it.
				var inner strings.Builder
				writeEntries(&inner, n.entries, indent+"  ")
				b.WriteString(" " + inner.String()[len(indent)+2:])
				continue
			}
			writeValue(b, item, indent)
		}
	case string:
		if blockable(v) {
			b.WriteString(" |-\n")
			for _, line := range strings.Split(v, "\n") {
				b.WriteString(strings.TrimRight(indent+"  "+line, " ") + "\n")
			}
			return
		}
		b.WriteString(" " + scalar(v) + "\n")
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}

// plain are texts that YAML reads as themselves, without quotes.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// words that YAML takes for something else than a text.
var reserved = map[string]bool{"true": true, "false": true, "null": true, "yes": true, "no": true, "on": true, "off": true, "y": true, "n": true}

// scalar returns a text as YAML reads it back: plain, or quoted.
func scalar(s string) string {
	if plain.MatchString(s) && !reserved[strings.ToLower(s)] {
		return s
	}
	return strconv.Quote(s) // every escape of Go means the same in YAML
}

// blockable tells whether a text of several lines can stand as a block, which reads back the same: no line ends with
// a blank, nor does the text begin with one or end with a line break.
func blockable(s string) bool {
	if !strings.Contains(s, "\n") || strings.HasPrefix(s, " ") || strings.HasPrefix(s, "\n") || strings.HasSuffix(s, "\n") ||
		strings.Contains(s, "\t") || !isText([]byte(s)) {
		return false
	}
	for _, line := range strings.Split(s, "\n") {
		if strings.HasSuffix(line, " ") {
			return false
		}
	}
	return true
}
