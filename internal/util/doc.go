// Package util is the offline tool's command line: `ashlar util`, and etcdutl when the program is called by that name.
//
// It works on files: snapshots, data directories (of etcd, and of ours while no server runs on them) and backups. For every
// command that etcdutl has, the output to a pipe and the exit status are etcdutl's, to the byte; verify, backup and restore are our
// own. A path that etcdutl expects, DIR/member/snap/db, stands for the member's state where DIR is a directory of ours.
//
// # Rules
//
//  1. No command ends the process or reads the process's own environment and streams: Run gets them.
//  2. Results go to standard output; what happens meanwhile is logged to standard error, a line each, in the console form of
//     etcd's log, so that scripts can leave it out.
//  3. Arguments are checked before a file is touched. Nothing is written over: a target that holds anything is refused.
//  4. A file that is only looked at is not changed. (etcdutl writes to the database that it hashes.)
package util
