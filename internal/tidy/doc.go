// Package tidy holds the rules of this repository that are facts, as tests: who may import whom, what may be
// called where, that every package and export is documented, that files are formatted.
//
// The table of imports (rooms_test.go) is the map of the house; each line says why. A test that fails here
// prints the file, the rule and its reason. Sizes are only printed, never enforced: `go test -v -run Longest`.
//
// The package has no code of its own and nothing may import it.
package tidy
