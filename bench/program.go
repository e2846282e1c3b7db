package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Program is a server that can be started.
type Program struct {
	Name    string `json:"name"`
	Version string `json:"version"` // what it says of itself
	path    string
}

// Of what deploy/Containerfile builds with: the tags that do not change what is measured but the size of the program, and the profile
// that tells the compiler what it spends its time on.
const (
	imageTags    = "grpcnotrace"
	imageProfile = "deploy/ashlar.pgo"
)

// findPrograms builds ours and, unless it is to be alone, etcd 3.7, but for those that paths names a program for. An etcd 3.4 takes
// part if paths has one.
func findPrograms(ctx context.Context, root, dir string, paths map[string]string, alone bool) ([]Program, error) {
	var found []Program
	for _, known := range []struct {
		name, module, pkg string
		flags             []string
	}{
		{oursName, root, "./cmd/ashlar", []string{"-tags", imageTags, "-pgo", imageProfile}},
		{"etcd37", filepath.Join(root, "test", "etcd37"), ".", nil},
		{"etcd34", "", "", nil},
	} {
		path := paths[known.name]
		if path == "" && known.module == "" || alone && known.name != oursName {
			continue
		}
		var err error
		if path == "" {
			path, err = build(ctx, known.module, known.pkg, known.flags, filepath.Join(dir, known.name))
		} else {
			path, err = lookUp(path)
		}
		if err != nil {
			return nil, err
		}
		version, err := versionOf(ctx, path)
		if err != nil {
			return nil, err
		}
		found = append(found, Program{known.name, version, path})
	}
	return found, nil
}

// lookUp finds a program as a shell does; servers run in another directory, so its path is made absolute.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("finding the server %s: %w", name, err)
	}
	return path, nil
}

// build compiles a package of a module.
func build(ctx context.Context, module, pkg string, flags []string, path string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", path}, flags, []string{pkg})...)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s of %s: %w\n%s", pkg, module, err, out)
	}
	return path, nil
}

// versionOf asks a server for its version and returns the first line of the answer.
func versionOf(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

// commitOf names the commit of a repository, and says whether files differ from it; empty where there is none.
func commitOf(ctx context.Context, root string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--always", "--dirty").Output()
	if err != nil {
		return "" // a source tree without Git
	}
	return strings.TrimSpace(string(out))
}

// repository is the nearest directory, from the working directory upwards, that holds cmd/ashlar.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "cmd", "ashlar")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("finding the repository: no cmd/ashlar in any directory above")
		}
		dir = parent
	}
}
