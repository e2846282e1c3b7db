// Package proxy serves clients in front of a cluster: the gateway passes TCP connections on to the endpoints that answer.
//
// The gateway looks at nothing that is sent: TLS is between the client and the member. A connection under way stays at its
// endpoint; a new one goes to the next that answers, and endpoints that do not are tried again by themselves.
//
// The package is a client and a server of the API and never a member: it opens no data directory.
package proxy
