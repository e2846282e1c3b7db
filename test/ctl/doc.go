// Package ctl tests the client's command line against a member, both in the test's own process.
//
// What a sequence of commands prints stands in testdata/*.txt, one story a file, each on a member of its own:
//
//	$ put key value          a command; quotes group words, a leading NAME=value is a variable, {lease} the newest lease
//	< line                   its standard input
//	| line                   what it must print to standard output
//	! line                   and to standard error, log lines left out
//	exit 1                   and its exit status, when it is not 0
//	# words                  for the reader
//
// Commands are called by the name etcdctl, in files own-*.txt by the name ashlar ctl. {dir} is an empty directory.
//
// Ids, terms, indexes, sizes, times and ports are replaced by names in braces. After a change that is meant, rewrite
// the stories and read the difference:
//
//	go test ./test/ctl -update
//
// What runs beside other commands (watches, locks, elections, mirrors) is tested in Go.
package ctl
