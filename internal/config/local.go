package config

import "net/netip"

// LocalAddr is the address that connections to other members are made from: with the gate SetMemberLocalAddr the first of
// AdvertisePeerURLs that is an address and not a loopback one. Otherwise, and when there is none, it is invalid: the system picks.
func (c *Config) LocalAddr() netip.Addr {
	if !c.Gate(GateSetMemberLocalAddr) {
		return netip.Addr{}
	}
	for i := range c.AdvertisePeerURLs {
		a, err := netip.ParseAddr(c.AdvertisePeerURLs[i].Hostname())
		if err == nil && !a.IsLoopback() && !a.IsUnspecified() {
			return a
		}
	}
	return netip.Addr{}
}
