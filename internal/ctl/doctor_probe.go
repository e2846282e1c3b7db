package ctl

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// checkCertificates looks at what members with TLS show.
func (x *examination) checkCertificates(ctx context.Context) {
	for _, m := range x.members {
		if m.status == nil {
			continue
		}
		asked, cancel := x.s.request(ctx)
		state, err := x.scraper.serverCertificates(asked, m.endpoint)
		cancel()
		if err != nil {
			x.find(notice, m.name(), fmt.Sprintf("its certificate was not looked at: %v", err), "openssl s_client -connect %s", strings.TrimPrefix(m.endpoint, "https://"))
			continue
		}
		if state == nil || len(state.PeerCertificates) == 0 {
			continue
		}
		x.judgeExpiry(m.name(), state.PeerCertificates[0].NotAfter, time.Now())
	}
}

func (x *examination) judgeExpiry(about string, end, now time.Time) {
	left := end.Sub(now)
	const fix = "replace the files of --cert-file and --key-file: members read them again by themselves"
	switch {
	case left <= 0:
		x.find(serious, about, "its certificate has expired on "+end.UTC().Format(time.DateOnly), fix)
	case left <= certificateSerious:
		x.find(serious, about, "its certificate expires on "+end.UTC().Format(time.DateOnly), fix)
	case left <= certificateWarning:
		x.find(warning, about, "its certificate expires on "+end.UTC().Format(time.DateOnly), fix)
	}
}

// checkHashes compares the hashes of keys at a revision that all members have.
func (x *examination) checkHashes(ctx context.Context) {
	var asked []*patient
	revision := int64(math.MaxInt64)
	for _, m := range x.members {
		if m.status != nil {
			asked = append(asked, m)
			revision = min(revision, m.status.GetHeader().GetRevision())
		}
	}
	if len(asked) < 2 {
		return
	}
	answers := make([]*pb.HashKVResponse, len(asked))
	failed := make([]error, len(asked))
	var wg sync.WaitGroup
	for i, m := range asked {
		wg.Go(func() { answers[i], failed[i] = x.hashAt(ctx, m.endpoint, revision) })
	}
	wg.Wait()
	x.judgeHashes(asked, answers, failed, revision)
}

// judgeHashes compares what members answered, or why they did not.
func (x *examination) judgeHashes(asked []*patient, answers []*pb.HashKVResponse, failed []error, revision int64) {
	// Hashes of members that have compacted differently cannot be compared.
	groups := map[int64]map[uint32][]string{}
	for i, m := range asked {
		if failed[i] != nil {
			x.find(notice, m.name(), fmt.Sprintf("its keys were not compared: %v", failed[i]), "ashlar ctl endpoint hashkv --cluster")
			continue
		}
		g := groups[answers[i].GetCompactRevision()]
		if g == nil {
			g = map[uint32][]string{}
			groups[answers[i].GetCompactRevision()] = g
		}
		g[answers[i].GetHash()] = append(g[answers[i].GetHash()], m.name())
	}
	for _, g := range groups {
		if len(g) < 2 {
			continue
		}
		var parts []string
		for h, names := range g {
			parts = append(parts, fmt.Sprintf("%08x (%s)", h, strings.Join(names, ", ")))
		}
		slices.Sort(parts)
		x.find(serious, "cluster", fmt.Sprintf("members hold different keys at revision %d: %s", revision, strings.Join(parts, ", ")),
			"the member that differs from most is damaged: remove it, empty its directory, and add it again; see docs/reliability.md")
	}
}

func (x *examination) hashAt(ctx context.Context, endpoint string, revision int64) (*pb.HashKVResponse, error) {
	c, err := x.s.atEndpoint(x.spec, endpoint)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	const hashLimit = time.Minute // a member reads all it has
	ctx, cancel := context.WithTimeout(ctx, max(hashLimit, x.s.settings.commandTimeout))
	defer cancel()
	r, err := c.HashKV(ctx, endpoint, revision)
	if err != nil {
		return nil, err
	}
	return (*pb.HashKVResponse)(r), nil
}
