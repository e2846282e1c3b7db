// Package v3client makes clients of members that run inside of the same program, under the name of etcd's package for it.
package v3client

import (
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/embed"
)

// New returns a client of the member whose connections stay inside of the process: see embed.Etcd.Client. The caller closes it.
func New(s *embed.Server) *clientv3.Client {
	c, err := s.Client()
	if err != nil {
		panic(err) // not reached: what the client is made of does not depend on anything outside
	}
	return c
}
