package main

import (
	"bytes"
	"flag"
	"testing"
	"time"
)

var server = flag.String("server", "", "run every line of the table, very small, on this program")

// TestEveryLineRuns needs a server, so that the other tests need none: go test . -run EveryLine -server PATH.
func TestEveryLineRuns(t *testing.T) {
	if *server == "" {
		t.Skip("no server was given with -server")
	}
	path, err := lookUp(*server)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certs, err := newCertificates(dir)
	if err != nil {
		t.Fatal(err)
	}
	trace, err := builtInTrace()
	if err != nil {
		t.Fatal(err)
	}
	sizes := fullSizes.scaled(0.001)
	sizes.Rounds, sizes.SlowMax, sizes.Budget = 1, 1, 8*time.Minute
	allowed := allowedCores()
	var progress bytes.Buffer
	r := &run{programs: []Program{{Name: oursName, path: path}}, lines: scenarios(), sizes: sizes, certs: certs, dir: dir,
		ports: &ports{next: firstPort}, allowed: allowed, divided: disjoint(allowed), trace: trace, progress: &progress}
	for _, l := range r.measure(t.Context()) {
		switch {
		case len(l.Servers) == 0:
			t.Errorf("%s was not run", l.title())
		case l.failed():
			t.Errorf("%s: %s", l.title(), l.Servers[0].Failed)
		case len(l.Servers[0].Medians) == 0 || l.Servers[0].Medians[l.Primary] <= 0:
			t.Errorf("%s has no %s: %v", l.title(), l.Primary, l.Servers[0].Medians)
		}
	}
	if t.Failed() {
		t.Log(progress.String())
	}
}
