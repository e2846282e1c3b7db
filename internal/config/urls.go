package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// URLs is a sorted list of addresses. All have one of the schemes http, https, unix and unixs; the first two
// hold a host and a port and no path.
type URLs []url.URL

// String returns the list separated by commas.
func (us URLs) String() string { return strings.Join(us.Strings(), ",") }

// Strings returns each address as text, in a new slice.
func (us URLs) Strings() []string {
	out := make([]string, len(us))
	for i := range us {
		out[i] = us[i].String()
	}
	return out
}

// ParseURLs parses a list separated by commas, with etcd's rules and messages. An empty text is an empty list;
// an address that is given twice counts once.
func ParseURLs(s string) (URLs, error) {
	if s == "" {
		return nil, nil
	}
	var out URLs
	for _, one := range strings.Split(s, ",") {
		u, err := parseURL(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b url.URL) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(out, func(a, b url.URL) bool { return a.String() == b.String() }), nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http", "https":
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return nil, fmt.Errorf(`URL address does not have the form "host:port": %s`, s)
		}
		if u.Path != "" {
			return nil, fmt.Errorf("URL must not contain a path: %s", s)
		}
	case "unix", "unixs":
	default:
		return nil, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", s)
	}
	return u, nil
}

// checkListen refuses addresses that cannot be bound to: names other than localhost are not addresses of this
// machine before they are resolved, and resolving them hides what is bound.
func checkListen(us URLs) error {
	for i := range us {
		if us[i].Scheme == "unix" || us[i].Scheme == "unixs" {
			continue
		}
		host := us[i].Hostname()
		if _, err := netip.ParseAddr(host); host != "localhost" && err != nil {
			return fmt.Errorf("expected IP in URL for binding (%s)", &us[i])
		}
	}
	return nil
}

// errEmptyHost is returned when an address to advertise names no host.
var errEmptyHost = errors.New("unexpected empty host")

// checkAdvertise refuses addresses that nobody else could dial.
func checkAdvertise(us URLs) error {
	for i := range us {
		if us[i].Scheme != "unix" && us[i].Scheme != "unixs" && us[i].Hostname() == "" {
			return fmt.Errorf("%w (%s)", errEmptyHost, &us[i])
		}
	}
	return nil
}

// secure returns the first address of the list that needs TLS, or nil.
func (us URLs) secure() *url.URL {
	for i := range us {
		if us[i].Scheme == "https" || us[i].Scheme == "unixs" {
			return &us[i]
		}
	}
	return nil
}
