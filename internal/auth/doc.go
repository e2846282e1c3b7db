// Package auth keeps the users, roles and permissions of a state and decides who may do what. It is replicated: what it
// holds follows from the log alone, and it reads no clock and draws no lots. Tokens and passwords are checked elsewhere
// (package member): here a password is the hash that came with an entry, and a subject is a name that someone believed.
//
// # Words
//
// A user has roles, a role has permissions, a permission is a kind and a range of keys. Root is the user and the role of that
// name: who has the role may do everything. The auth revision counts the changes; a Subject carries the one by which it
// was checked, and is refused when there was a change since. A group is a number of entries that one batch writes.
//
// # Invariants
//
//  1. The users and roles in memory are those on disk, once a group was published.
//  2. While authentication is on there is a user root with the role root.
//  3. Every entry that changes a user, a role or a permission takes one auth revision; no other entry does, but
//     for switching off. Refused commands change nothing.
//  4. A Judge is a decision at one moment: whatever it is asked is answered from one auth revision.
//
// # Who writes and who reads
//
// Apply alone changes users and roles: Begin, changes, then Publish once the batch was committed. A Change sees the
// group's own work; readers, in any goroutine, see published groups only.
//
// # Locks
//
// Table.mu guards the maps of users and roles. It is held for a look-up, for merging the permissions of one user when
// they are first asked for after a change of a role, for a list of names, and for what one group changed. Nothing is called
// and nothing is read from disk while it is held.
//
// # What it refuses
//
// It knows no request, no token, no password and no client: package apply walks through requests and asks for each range
// of keys.
package auth
