// Package sim runs whole members in one goroutine: the real consensus, log,
// storage, state machine and store, on crashable in-memory filesystems, with a
// simulated clock and network.
//
// A World is driven by a seed. Each step does one small thing: lets a member take
// one turn of one of its loops, delivers, delays, drops or reorders a message, lets a
// client ask something, keep a lease alive or read what it watches, changes the membership, transfers leadership, stops a member (as
// kill -9 or as a power cut that loses what was not synced, in both databases at one instant), pauses or cuts one off, has the disk of a log hang, flushes,
// compacts, cuts the log, so that snapshots are needed. In some worlds, of three members or of five, a disk changes a value by itself
// now and then. In some disks fail: one operation or all from it on, writes and syncs or reads, of the log, the state or everything. In some worlds members join with empty disks, as voters or as learners that
// are promoted, and leave; in some half of the snapshots go as database files of etcd; in some, all but one keep the log for members that are away; some lose all members but one for good in the
// end, which goes on alone (--force-new-cluster).
//
// After each step and at the end it checks:
//
//  1. one order: the entry applied at an index is the same on every member, ever;
//  2. nothing acknowledged is lost: each answered write is found at its revision on
//     every member that has got there;
//  3. reads are true: a linearizable read saw every write answered before it began,
//     and exactly the state of the revision it reports;
//  4. revisions have no gap, and each belongs to one request;
//  5. equal state: HashKV agrees wherever two members are at the same revision, the chained hash after each entry; leases, their keys and the members are
//     those of the model;
//  6. a watcher gets exactly the model's events, in order, each once and by whole revisions, with the right version
//     before; a progress mark is never above an event to come; what it is told to be compacted is. It goes on at any other
//     member from behind the last revision it knows of, over restarts and installed snapshots;
//  7. a lease ends by itself only once the full time since its last answered renewal has passed, and under a quorum; all
//     end in time once the cluster is whole; their keys are gone with them, everywhere;
//  8. a member that was removed learns it, or is never heard of again; the others go on;
//  9. a member whose disk lied is found by one comparison once a write has met the lie and all others have told, and never is one
//     accused that is right; from then on nothing that it answers counts, it sends its state to nobody, and it is rebuilt or
//     gets a snapshot, over crashes at any write. What it answers before is not checked. The others are right all the time;
//  10. what is in the log of the last member that is left is the truth from then on, over all restarts;
//  11. a member whose log fails ends, and does nothing more to its files; whoever ends for its disk says so, and nobody ends otherwise. At each
//     start, behind whatever has ended the member before, its log has the entries and the vote that it has told others of.
//
// Of what a member has sent, or is to get, some is lost when it ends, and some arrives: at once, long after, more than once, and behind its next start.
//
// The world takes the turns of all loops itself, one after another. What may happen in the midst of one, and that a request takes its turn
// itself, has a simulator of its own in package consensus, without states (crew_test.go). Only where a write of a log fails other loops go on before
// that is known.
//
// In worlds without growth, members that come in addition to the first never start: they only count.
//
// A failing run prints its seed and the command that runs it again. What happens in a world follows from its seed: what raft draws
// comes from it, too (chance.go), and what a crash leaves depends on nothing but the seed and the paths (crash.go). With -journal a world
// writes down what it has come to after each step; two runs of a seed write the same.
//
// Pebble's background work and the hubs of watchers have threads of their own, so when a table is compacted and in how many messages
// a watcher is told does not follow from the seed: a power cut may come with a table there or not. What is found must hold under any
// such timing. The same goes for the failures of the disk of a state.
//
// Each later feature adds its steps to steps.go and its checks to check.go.
package sim
