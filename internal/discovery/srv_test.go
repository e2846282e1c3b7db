package discovery

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestMembersAreFoundByTheirRecords(t *testing.T) {
	t.Parallel()
	hosts := map[string]string{"one.example.test.": "127.0.0.1", "two.example.test.": "127.0.0.2", "three.example.test.": "127.0.0.3"}
	three := []net.SRV{{Target: "one.example.test.", Port: 2380}, {Target: "two.example.test.", Port: 2380}, {Target: "three.example.test.", Port: 2380}}
	cases := map[string]struct {
		srv          map[string][]net.SRV
		suffix, name string
		own          string
		want         []string // sorted; names of others left out
		failure      string
	}{
		"plain records, and this member by its address": {
			srv: map[string][]net.SRV{"_etcd-server._tcp.example.test.": three}, name: "me", own: "http://127.0.0.2:2380",
			want: []string{"=http://one.example.test:2380", "=http://three.example.test:2380", "me=http://two.example.test:2380"}},
		"records of TLS, and this member by its name": {
			srv: map[string][]net.SRV{"_etcd-server-ssl._tcp.example.test.": three}, name: "me", own: "https://three.example.test:2380",
			want: []string{"=https://one.example.test:2380", "=https://two.example.test:2380", "me=https://three.example.test:2380"}},
		"both kinds together": {
			srv: map[string][]net.SRV{"_etcd-server-ssl._tcp.example.test.": three[:1], "_etcd-server._tcp.example.test.": three[1:]},
			own: "https://127.0.0.1:2380", name: "me",
			want: []string{"=http://three.example.test:2380", "=http://two.example.test:2380", "me=https://one.example.test:2380"}},
		"a service with a suffix": {
			srv: map[string][]net.SRV{"_etcd-server-blue._tcp.example.test.": three[:1]}, suffix: "blue", own: "http://127.0.0.1:2380", name: "me",
			want: []string{"me=http://one.example.test:2380"}},
		"another port of this host is another member": {
			srv: map[string][]net.SRV{"_etcd-server._tcp.example.test.": three[:1]}, own: "http://127.0.0.1:9", name: "me",
			want: []string{"=http://one.example.test:2380"}},
		"a host without an address is left out": {
			srv: map[string][]net.SRV{"_etcd-server._tcp.example.test.": {three[0], {Target: "gone.example.test.", Port: 1}}},
			own: "http://127.0.0.1:2380", name: "me", want: []string{"me=http://one.example.test:2380"}},
		"the wrong scheme": {
			srv: map[string][]net.SRV{"_etcd-server._tcp.example.test.": three[:1]}, own: "https://127.0.0.1:2380", name: "me",
			failure: "bootstrap at http://one.example.test:2380 from DNS for etcd-server has scheme mismatch with expected peer https://127.0.0.1:2380"},
		"no records": {own: "http://127.0.0.1:2380", name: "me", failure: "error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.example.test"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serveZone(t, c.srv, hosts)
			own, err := url.Parse(c.own)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Servers(t.Context(), r, "example.test", c.suffix, Self{Name: c.name, PeerURLs: []url.URL{*own}})
			if c.failure != "" {
				if err == nil || !strings.Contains(err.Error(), c.failure) {
					t.Fatalf("got %q, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			var members []string
			for _, m := range strings.Split(got, ",") {
				name, place, _ := strings.Cut(m, "=")
				if names[name] {
					t.Errorf("two members are called %q: %s", name, got)
				}
				names[name] = true
				if name != c.name {
					name = ""
				}
				members = append(members, name+"="+place)
			}
			slices.Sort(members)
			if !slices.Equal(members, c.want) {
				t.Errorf("got %q, want %q", members, c.want)
			}
		})
	}
}

func TestNoOtherMemberTakesTheNameOfThisOne(t *testing.T) {
	t.Parallel()
	r := serveZone(t, map[string][]net.SRV{"_etcd-server._tcp.example.test.": {
		{Target: "one.example.test.", Port: 1}, {Target: "one.example.test.", Port: 2}, {Target: "one.example.test.", Port: 3}}},
		map[string]string{"one.example.test.": "127.0.0.1"})
	got, err := Servers(t.Context(), r, "example.test", "", Self{Name: "1", PeerURLs: []url.URL{{Scheme: "http", Host: "127.0.0.1:2"}}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(","+got, ",1=") != 1 || !strings.Contains(","+got, ",1=http://one.example.test:2") {
		t.Errorf("got %s", got)
	}
}

func TestEndpointsAreFoundByTheirRecords(t *testing.T) {
	t.Parallel()
	r := serveZone(t, map[string][]net.SRV{
		"_etcd-client-ssl-x._tcp.example.test.": {{Target: "one.example.test.", Port: 2379, Priority: 1, Weight: 2}},
		"_etcd-client-x._tcp.example.test.":     {{Target: "two.example.test.", Port: 2379}},
	}, nil)
	got, err := Clients(t.Context(), r, "example.test", "x")
	want := []Endpoint{{URL: "https://one.example.test:2379", Host: "one.example.test", Port: 2379, Priority: 1, Weight: 2},
		{URL: "http://two.example.test:2379", Host: "two.example.test", Port: 2379}}
	if err != nil || !slices.Equal(got, want) || !got[0].Secure() || got[1].Secure() {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Clients(t.Context(), r, "example.test", ""); err == nil || !strings.HasPrefix(err.Error(), "dns lookup errors: ") {
		t.Errorf("without records: %v", err)
	}
}
