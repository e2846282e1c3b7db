package rpc

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// parsePeerURLs checks the peer URLs of a member that is to be added, with etcd's rules, and returns them as they are stored:
// sorted, without blanks around them. There must be one at least.
func parsePeerURLs(given []string) (urls []string, ok bool) {
	for _, s := range given {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil || !isPeerURL(u) {
			return nil, false
		}
		urls = append(urls, u.String())
	}
	slices.Sort(urls)
	return urls, len(urls) > 0
}

func isPeerURL(u *url.URL) bool {
	switch u.Scheme {
	case "http", "https":
		_, _, err := net.SplitHostPort(u.Host)
		return err == nil && u.Path == ""
	case "unix", "unixs":
		return true
	default:
		return false
	}
}
