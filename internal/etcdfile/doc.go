// Package etcdfile knows etcd's database file: a bbolt file whose buckets hold the versions of all keys, the leases, the
// alarms, the members and a few facts about the log (docs/format/etcd-snapshot.md).
//
// # Words
//
// A content is everything such a file holds, as records: a bucket, a key and a value. Read reads the content of a
// state of ours; Write makes a file of it; Open reads a file, whoever wrote it. An image of a content is what its file is made of, from which
// the file's bytes can be read.
//
// # Guarantees
//
//  1. Read gives one instant of the state: keys, leases, alarms, members and the applied index are all those after
//     one log entry, whatever is written meanwhile.
//  2. What etcd would have written for the same content Write writes, bucket by bucket and byte by byte. Only the pages
//     that it lies in may differ.
//  3. Memory is bounded, whatever the state holds: versions are sorted some MiB at a time, and written page after page.
//     One version alone may be larger; it is as large as a request may be.
//  4. A file that is damaged is an error that wraps ErrInvalid, or bbolt's; it is never a panic.
//
// # Order
//
// etcd's file has versions in order of their revision, while our values lie in order of the keys, and a read of a
// single value costs a seek of some microseconds. So all data is read once, as it lies; runs of it are sorted in memory and go to
// a file (sorter). They are merged from there twice: first the heads of the versions alone, to lay the pages out, and then the versions, to make
// the pages, in their order, for whoever reads them (Image). Where they go to a file the one that was sorted gives back what was merged, so that both together
// take the room of one. History goes by beside the first merge: a version that only one of the two has is damage, and ends it. The second needs
// nothing of the state.
//
// # What it refuses
//
// It changes no database of ours and knows no member, log or network. Write never syncs its file, which is sent on and thrown
// away.
package etcdfile
