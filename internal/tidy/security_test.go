package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
)

// TestTheTestsOfTheSecurityPageExist keeps docs/security.md true: what is said to be shown by a test is, and each row of its
// tables of threats names one.
func TestTheTestsOfTheSecurityPageExist(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			exist[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := testName.FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !exist[m[1]] {
			t.Errorf("%s is not there", m[1])
		}
	}
	_, threats, _ := strings.Cut(string(page), "## Threats")
	for _, row := range strings.Split(threats, "\n") {
		heading := strings.HasPrefix(row, "| threat") || strings.HasPrefix(row, "| etcd") || strings.HasPrefix(row, "|---")
		if strings.HasPrefix(row, "|") && !heading && !testName.MatchString(row) {
			t.Errorf("no test is named in the row %s", row)
		}
	}
}
