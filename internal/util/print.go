package util

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// reply is a result in the forms that it can be printed in.
type reply struct {
	simple   string
	fields   []field
	json     any
	headings []string
	row      []string
}

// field is one line of the format fields; text is printed as it is.
type field struct{ name, text string }

// formats are those of --write-out; a false one is known and not for these replies, as in etcdutl.
var formats = map[string]bool{"simple": true, "fields": true, "json": true, "table": true, "protobuf": false}

// checkFormat fails with status 4 when the format cannot be printed in.
func (s *session) checkFormat() error {
	printed, known := formats[s.format]
	switch {
	case !known:
		return badFeature("unsupported output format")
	case !printed:
		return badFeature("%s not supported as output format", s.format)
	}
	return nil
}

// print writes a reply in the format asked for, which was checked.
func (s *session) print(r reply) error {
	var text strings.Builder
	switch s.format {
	case "simple":
		fmt.Fprintln(&text, r.simple)
	case "fields":
		for _, f := range r.fields {
			fmt.Fprintf(&text, "%q : %s\n", f.name, f.text)
		}
	case "json":
		b, err := json.Marshal(r.json)
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		fmt.Fprintf(&text, "%s\n", b)
	case "table":
		r.table(&text)
	}
	_, err := fmt.Fprint(s.Stdout, text.String())
	return err
}

// table draws the one row in lines: headings centred, cells to the right.
func (r *reply) table(text *strings.Builder) {
	rules, heads, cells := make([]string, len(r.row)), make([]string, len(r.row)), make([]string, len(r.row))
	for i, cell := range r.row {
		head := r.headings[i]
		width := max(utf8.RuneCountInString(head), utf8.RuneCountInString(cell))
		space := width - utf8.RuneCountInString(head)
		rules[i] = strings.Repeat("─", width+2)
		heads[i] = " " + strings.Repeat(" ", space/2) + head + strings.Repeat(" ", space-space/2) + " "
		cells[i] = " " + strings.Repeat(" ", width-utf8.RuneCountInString(cell)) + cell + " "
	}
	fmt.Fprintf(text, "┌%s┐\n│%s│\n├%s┤\n│%s│\n└%s┘\n", strings.Join(rules, "┬"), strings.Join(heads, "│"),
		strings.Join(rules, "┼"), strings.Join(cells, "│"), strings.Join(rules, "┴"))
}
