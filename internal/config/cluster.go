package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// resolveTimeout bounds the look-up of host names when the peer addresses of this member are compared.
const resolveTimeout = 5 * time.Second

// InitialMember is one member of the initial cluster.
type InitialMember struct {
	// Name is the member's name.
	Name string
	// PeerURLs are its addresses for other members, sorted.
	PeerURLs []string
}

// InitialMembers returns the members that InitialCluster names, sorted by name. A name that stands there
// several times has several addresses.
func (c *Config) InitialMembers() ([]InitialMember, error) {
	var out []InitialMember
	for _, pair := range strings.Split(c.InitialCluster, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, addr, _ := strings.Cut(pair, "=")
		u, err := parseURL(addr)
		if err != nil {
			return nil, fmt.Errorf("error setting up initial cluster: %w", err)
		}
		i := slices.IndexFunc(out, func(m InitialMember) bool { return m.Name == name })
		if i < 0 {
			i, out = len(out), append(out, InitialMember{Name: name})
		}
		out[i].PeerURLs = append(out[i].PeerURLs, u.String())
	}
	for i := range out {
		slices.Sort(out[i].PeerURLs)
	}
	slices.SortFunc(out, func(a, b InitialMember) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// initialClusterDefault is etcd's: the member's own addresses if it was named, else the default ones whatever
// it advertises, so that advertising other addresses without a cluster is found as a mistake.
func (c *Config) initialClusterDefault() string {
	if c.Name == DefaultName {
		return DefaultName + "=" + defaultPeerURL
	}
	pairs := c.AdvertisePeerURLs.Strings()
	for i := range pairs {
		pairs[i] = c.Name + "=" + pairs[i]
	}
	return strings.Join(pairs, ",")
}

// Initialised tells whether the data directory already holds a member, of ours or of etcd, which a start takes over. It reads and
// changes nothing.
func (c *Config) Initialised() bool {
	_, err := os.Stat(c.IdentityFile())
	return err == nil || c.leftByEtcd()
}

// leftByEtcd tells whether etcd has left a member in the data directory, or a take-over, which may have been cut off before there was an
// identity, has left its guard. package takeover decides what becomes of it.
func (c *Config) leftByEtcd() bool {
	if info, err := os.Stat(filepath.Join(c.DataDir, "member")); err == nil && info.Mode().IsRegular() {
		return true
	}
	for _, name := range []string{"member", "member.etcd-taking-over"} {
		dir := filepath.Join(c.DataDir, name)
		wal := filepath.Join(dir, "wal")
		if c.WALDir != "" {
			wal = c.WALDir
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		files, _ := os.ReadDir(wal) // what cannot be read is no member's, and package takeover says so
		if slices.ContainsFunc(files, func(f os.DirEntry) bool { return filepath.Ext(f.Name()) == ".wal" }) {
			return true
		}
	}
	return false
}

// CheckBootstrap refuses settings from which no member can be bootstrapped. They matter only to a data
// directory that is not Initialised, as in etcd: later starts read the member from the directory.
// It may look up host names, and touches no file. What discovery is yet to find is not checked.
func (c *Config) CheckBootstrap(ctx context.Context) error {
	if c.Discovery.Wanted() {
		if c.Joins() && c.Discovery.SRV == "" {
			return errors.New("discovery URL should not be set when joining existing initial cluster")
		}
		return nil
	}
	members, err := c.InitialMembers()
	if err != nil {
		return err
	}
	own := slices.IndexFunc(members, func(m InitialMember) bool { return m.Name == c.Name })
	if own < 0 || c.Name == "" {
		return fmt.Errorf("couldn't find local name %q in the initial cluster configuration (--initial-cluster=%s)",
			c.Name, c.InitialCluster)
	}
	seen := map[string]bool{}
	for _, m := range members {
		for _, u := range m.PeerURLs {
			if seen[u] {
				return fmt.Errorf("initial cluster %s has duplicate url", c.InitialCluster)
			}
			seen[u] = true
		}
	}
	if c.Joins() {
		return nil // the cluster knows the addresses already
	}
	return c.checkOwnURLs(ctx, members[own].PeerURLs)
}

// checkOwnURLs compares what the initial cluster says about this member with what it advertises.
func (c *Config) checkOwnURLs(ctx context.Context, initial []string) error {
	advertised := c.AdvertisePeerURLs.Strings()
	differ := SameAddresses(ctx, advertised, initial)
	if differ == nil {
		return nil
	}
	if missing := without(initial, advertised); len(missing) > 0 {
		return fmt.Errorf("--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s (%w)",
			named(c.Name, missing), strings.Join(advertised, ","), differ)
	}
	if missing := without(advertised, initial); len(missing) > 0 {
		return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s",
			strings.Join(missing, ","), named(c.Name, advertised))
	}
	return fmt.Errorf("failed to compare --initial-advertise-peer-urls=%s with --initial-cluster: %w",
		strings.Join(advertised, ","), differ)
}

func named(name string, us []string) string {
	return name + "=" + strings.Join(us, ","+name+"=")
}

// without returns the elements of a that b does not hold.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// SameAddresses returns nil when both lists lead to the same addresses, in any order. Names are looked up only where
// the texts differ.
func SameAddresses(ctx context.Context, a, b []string) error {
	if len(a) != len(b) {
		return fmt.Errorf("len(%q) != len(%q)", a, b)
	}
	if slices.Equal(spelled(a), spelled(b)) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var resolved [2][]string
	for i, list := range [][]string{a, b} {
		for _, addr := range list {
			x, err := resolve(ctx, addr)
			if err != nil {
				return err
			}
			resolved[i] = append(resolved[i], x)
		}
		slices.Sort(resolved[i])
	}
	for i, x := range resolved[0] {
		if y := resolved[1][i]; x != y {
			return fmt.Errorf("resolved urls: %q != %q", x, y)
		}
	}
	return nil
}

// spelled returns addresses in one spelling of those that hold IP addresses, sorted.
func spelled(addrs []string) []string {
	var out []string
	for _, addr := range addrs {
		if u, err := url.Parse(addr); err == nil {
			if ip := net.ParseIP(u.Hostname()); ip != nil {
				u.Host = hostOf(ip.String(), u.Port())
			}
			addr = u.String()
		}
		out = append(out, addr)
	}
	slices.Sort(out)
	return out
}

// hostOf is net.JoinHostPort, without a port if that is empty.
func hostOf(host, port string) string {
	return strings.TrimSuffix(net.JoinHostPort(host, port), ":")
}

// resolve replaces the host name in an address by its first IP address. localhost stays as it is, as in etcd.
func resolve(ctx context.Context, addr string) (string, error) {
	u, err := url.Parse(addr)
	if err != nil || u.Hostname() == "localhost" || (u.Scheme != "http" && u.Scheme != "https") {
		return addr, err
	}
	if net.ParseIP(u.Hostname()) != nil {
		return spelled([]string{addr})[0], nil
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return "", fmt.Errorf("failed to resolve %s: %w", addr, err)
	}
	if len(ips) == 0 {
		return "", errors.New("failed to resolve " + addr)
	}
	u.Host = hostOf(ips[0].String(), u.Port())
	return u.String(), nil
}
