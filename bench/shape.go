package main

import (
	"fmt"
	"slices"
)

// Shape is how a server runs.
type Shape struct {
	Members int  `json:"members"`
	TLS     bool `json:"tls"`    // for clients and peers, with certificates on both sides
	Pinned  bool `json:"pinned"` // servers and client on disjoint cores, where there are enough
}

// The shapes of the scenarios.
var (
	one      = Shape{Members: 1}
	oneTLS   = Shape{Members: 1, TLS: true}
	three    = Shape{Members: 3}
	threeTLS = Shape{Members: 3, TLS: true}
)

func (s Shape) pinned() Shape { s.Pinned = true; return s }

// String says it as the table does.
func (s Shape) String() string {
	text := "1 member"
	if s.Members > 1 {
		text = fmt.Sprintf("%d members", s.Members)
	}
	if s.TLS {
		text += ", mTLS"
	}
	if s.Pinned {
		text += ", own cores"
	}
	return text
}

// cores are who runs where; both are empty when all share all cores.
type cores struct{ servers, client []int }

// disjoint divides the cores: a quarter, and at least one, for the client. One core alone is shared.
func disjoint(all []int) cores {
	if len(all) < 2 {
		return cores{}
	}
	n := max(1, len(all)/4)
	return cores{servers: slices.Clone(all[n:]), client: slices.Clone(all[:n])}
}
