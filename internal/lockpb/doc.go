// Package lockpb holds the messages and services of locks and elections: those that etcd calls v3lockpb and v3electionpb, which are
// no part of its API module. The .proto files are our own; names and numbers on the wire are etcd's.
//
// All other Go files are generated, by
//
//	go test ./internal/lockpb -run TestGenerate -generate
//
// which needs protoc (of any release from 3.21 on) and builds the plugins itself, in the releases that generate_test.go
// names. The .proto files that ours import are taken from the descriptors of etcd's Go packages, and the paths of the
// JSON API from http.yaml, so nothing else is needed. A test compares the .proto files with what was generated.
//
// A program can hold this package or etcd's v3lockpb and v3electionpb, not both: package proto refuses two messages of one name.
package lockpb
