package config

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// fileBytesMax bounds what is read of a configuration file.
const fileBytesMax = 1 << 20

// section is one level of the configuration file.
type section map[string]json.RawMessage

// file takes the settings of the YAML or JSON file at path. Keys that the table does not hold are ignored,
// as etcd does; a null leaves the default.
func (p *parser) file(path string) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("configuration file %s: %s", path, oneLine(err))
	}
	root, err := parseSection(raw)
	if err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	for _, row := range table {
		if row.Key == "" {
			continue
		}
		raw, err := root.find(row.Key)
		if err != nil {
			return fmt.Errorf("configuration file %s: %w", path, err)
		}
		if raw == nil {
			continue
		}
		if err := p.values[row.label()].setFile(raw); err != nil {
			return fmt.Errorf("configuration file %s: %s: %w", path, row.Key, err)
		}
		p.settle(row, "key "+row.Key+" of "+path)
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // the operating system's message names the file
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration file: %w", err)
	}
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("configuration file %s is larger than %d bytes", path, fileBytesMax)
	}
	return text, nil
}

func parseSection(raw json.RawMessage) (section, error) {
	var s section
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("want sections of the form key: value, got %.40s", raw)
	}
	return s, nil
}

// find returns the value at a path of keys separated by dots, or nil when it is not there or null.
// Keys are compared exactly first, then without case, as etcd's reader does.
func (s section) find(path string) (json.RawMessage, error) {
	key, rest, nested := strings.Cut(path, ".")
	raw, ok := s[key]
	if !ok {
		for _, k := range sortedKeys(s) {
			if strings.EqualFold(k, key) {
				raw = s[k]
			}
		}
	}
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	if !nested {
		return raw, nil
	}
	sub, err := parseSection(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return sub.find(rest)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
