// Package watch tells those who ask what changes in the store.
//
// # Words
//
// A watcher is a key or a range, filters and a first revision; it belongs to a stream, which is what one client reads.
// The hub distributes: it is told of every revision after it was committed (Hub.Publish) and finds its watchers in an
// index. A watcher is in step when it is in that index. It is behind when it needs revisions that the hub has distributed
// already: because it starts in the past, because its stream's queue was full when they came, or because the state
// was replaced. The ring is the newest revisions in memory. A chunk is a bounded stretch of history, read for all those
// of one stream that are behind. A progress mark is a message without events.
//
// # Promises
//
//  1. Ordered: a watcher's events come in order of revision, and in a revision in the order in which it made them.
//  2. Unique: no event comes twice.
//  3. Atomic: the events of one revision come in one message, with Spec.Fragment in one series of fragments.
//  4. Reliable: every event from the first revision on that matches comes, or a message that the watcher was canceled.
//  5. Resumable: a watcher that starts behind the last revision received gets what the one before would have got;
//     if that is compacted it is told so, with the compact revision.
//  6. Bookmarkable: after a progress mark of revision R no event at or below R comes, for the watcher, or for all
//     of the stream when it was asked for by hand. The same is true of the header's revision in a message of
//     events, for its watcher. No event above R comes before a mark that was asked for by hand.
//  7. An event of a put is the KeyValue that was written, with its create revision and version. The version before is the
//     one that the key had at the revision before, whatever the same revision did to it meanwhile; the put that creates
//     a key has none, and neither has an event at or below the compact revision that is read from history.
//  8. Filters are exact: nothing else comes.
//  9. Announced: the message that a watcher was created comes before all that is of it.
//
// What was queued for a watcher before Stream.Cancel may still come, but nothing after the message that it was canceled.
//
// # How
//
// An event is encoded when the first watcher wants it, and all share the bytes; once more if one wants the version before.
// Publish puts the events into a bounded inbox. The hub's goroutine takes them out, or whoever comes first and needs to
// be no later: a request for progress, a watcher that comes into step. It stages what each watcher gets and hands
// it over in whole revisions.
//
// A stream has a queue of messages and of watchers with pending events. A watcher's pending events are merged into one
// message when its turn comes, so a slow client gets fewer and larger messages. The queue is bounded in bytes; bytes
// that several watchers share are counted for each. What does not fit makes the watcher fall behind at that revision, and
// nobody else. The queue order is what makes a progress mark true: it stands behind all watchers whose events it covers.
//
// Those behind are served by Stream.Next itself, in its caller's goroutine: nothing polls, and nobody else waits. A chunk
// is matched first, in order of revision; then only what somebody wants is loaded, in order of the keys, and encoded; then it is
// queued, in order of revision again. That is done in steps of about a millisecond, each with a view of its own; when a
// compaction has come between two of them that the chunk must know of, it begins anew. Steps and messages of the
// others alternate. A chunk that comes from the ring copies nothing.
// When it has come to the end of the ring, the watchers enter the hub's index while the hub's lock is still held: so
// there is no gap and no repeat.
//
// # Bounds
//
// Beside its watchers a stream holds at most QueueBytes, one chunk (some 32 MiB of values and as much for their places, less when several
// streams read; a revision is never split, so one of more than that exceeds it) and the message that is being written. All streams together
// hold at most TotalBytes of all this: at the bound watchers in step fall behind, and a stream that reads history has the
// smallest chunks there are, each once its client has taken the one before; so clients that do not read stop nobody, and the
// bound is passed by a small chunk or one revision for each stream. Bytes that watchers share count for each of them there too.
// The hub holds RingBytes (a sixteenth while there are no streams) and the inbox as much again (at least 1 MiB). An inbox that is full is dropped: all watchers read
// those revisions from history, of which the hub tells each stream; the stream tells its watchers. A watcher costs about 200 bytes beside its key and
// range. The number of watchers is not bounded here.
//
// # Locks
//
// Hub.mu, then Stream.mu, then the inbox's. A stream's lock alone is held while it walks its watchers after revisions were lost. Publish takes only the inbox's, which is held for a few instructions. Hub.mu is
// held while at most a few thousand events are matched. It is not held while history is read, except for a
// version before that a watcher in step wants and the ring has lost.
//
// # What it refuses
//
// It knows no connections, no permissions and no clock: whoever serves the stream asks for progress marks when it is
// time (Stream.NotifyProgress), and says how long to rest between two steps of reading history (Stream.Rest).
package watch
