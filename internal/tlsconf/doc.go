// Package tlsconf makes TLS configurations from certificate files, keeps them fresh while the files change, and accepts
// TLS connections.
//
// # Words
//
//   - Material: what one set of files held when they were last read: the certificates, the authorities that others are
//     verified with, the revoked serial numbers.
//   - A Source keeps the newest material of one side of a member: the side of clients, or that of other members.
//   - The handshake is all that happens on a connection before its first byte of data, with the checks of the other's certificate.
//
// # Rules
//
//  1. Files that cannot be used refuse the start, with their name and the reason.
//  2. Files that change are read again before a handshake, at most once a checkEvery. What cannot be used stays as it was before
//     and the log says so, once for each change: each certificate with its key, the authorities and the revocations by themselves.
//     Connections that are there stay as they are.
//  3. Every handshake is checked against the newest material, also one that resumes a session: the authority, the revocations
//     and the names allowed. The check is one and the same for whatever is spoken afterwards.
//  4. A handshake has a time limit, and the number of those under way is bounded. A connection that has sent nothing is no
//     handshake; further ones wait in the operating system's queue.
//
// # Locks
//
// Source.reading is held while files are read, by one handshake; others do not wait for it and take the material there is.
//
// What a list of revocations says counts by serial number alone, and neither its signature nor its age is checked, as in
// etcd: a stale list or one of another authority can refuse too much, never too little.
package tlsconf
