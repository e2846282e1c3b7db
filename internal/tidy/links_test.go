package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	silent  = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`) // what the name of a heading leaves out
)

// TestLinksLeadSomewhere checks the links between pages of this repository, and to headings.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	err := walk(func(name string) error {
		if !strings.HasSuffix(name, ".md") {
			return nil
		}
		page := filepath.Join(root, filepath.FromSlash(name))
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			file, section := m[1], m[2]
			if strings.Contains(file, "://") || file == "" && section == "" {
				continue
			}
			to := page
			if file != "" {
				to = filepath.Join(filepath.Dir(page), filepath.FromSlash(file))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which is not there", name, file)
			} else if section != "" && strings.HasSuffix(to, ".md") && !hasSection(t, to, section) {
				t.Errorf("%s links to %s#%s, and no heading there has that name", name, file, section)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// hasSection says whether a page has a heading of that name, as pages of a repository are shown.
func hasSection(t *testing.T, page, section string) bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
		if strings.ReplaceAll(silent.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-") == section {
			return true
		}
	}
	return false
}
