package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/test/process"
)

// clusterOf makes members of one cluster, which talk to each other over TLS, and starts them; flags are those of each.
func clusterOf(t *testing.T, n int, flags func(i int) []string) []*member {
	t.Helper()
	all := make([]*member, n)
	var initial []string
	for i := range all {
		name := fmt.Sprintf("m%d", i)
		all[i] = newMember(t, "--name", name)
		all[i].peer = "https://" + process.FreeAddress(t)
		initial = append(initial, name+"="+all[i].peer)
	}
	for i, m := range all {
		m.extra = append(m.extra, "--initial-cluster", strings.Join(initial, ","))
		m.extra = append(m.extra, flags(i)...)
		m.launch(t)
	}
	for _, m := range all {
		m.last.WaitReady(t)
	}
	return all
}

// checkCluster writes through one member and reads through each.
func checkCluster(t *testing.T, all []*member) {
	t.Helper()
	ctx := within(t, process.Patience)
	_, err := all[0].connect(t).Put(ctx, "k", "v")
	noError(t, err)
	for _, m := range all {
		r, err := m.connect(t).Get(ctx, "k", clientv3.WithPrefix())
		noError(t, err)
		if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
			t.Errorf("%s has %v", m.client, r.Kvs)
		}
	}
}

// TestMembersKnowEachOtherByTheirCertificates, which they show and demand both ways, renewed while they run.
func TestMembersKnowEachOtherByTheirCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := authority.New(t, dir, "ca")
	serves := ca.Issue(t, "serves", authority.Loopback("member"))
	dials := ca.Issue(t, "dials", authority.Names{CN: "member", IPs: []string{"127.0.0.1"}})
	revoked := ca.Issue(t, "revoked", authority.Loopback("member"))
	all := clusterOf(t, 3, func(int) []string {
		return []string{
			"--peer-cert-file", serves.Cert, "--peer-key-file", serves.Key, "--peer-trusted-ca-file", ca.File, "--peer-client-cert-auth",
			"--peer-client-cert-file", dials.Cert, "--peer-client-key-file", dials.Key, "--peer-cert-allowed-cn", "member",
			"--peer-crl-file", ca.Revoke(t, "crl", revoked),
		}
	})
	checkCluster(t, all)

	client := ca.Issue(t, "client", authority.Loopback("root"))
	elsewhere := ca.Issue(t, "elsewhere", authority.Names{CN: "member", IPs: []string{"10.1.2.3"}})
	stranger := authority.New(t, dir, "another").Issue(t, "stranger", authority.Loopback("member"))
	for _, who := range []struct {
		name string
		own  *authority.Issued
		may  bool
	}{
		{"a member", &dials, true},
		{"nobody", nil, false},
		{"a client of the same authority", &client, false},
		{"a member that is revoked", &revoked, false},
		{"a member from elsewhere", &elsewhere, false},
		{"a member of another authority", &stranger, false},
	} {
		if err := askPeerPort(all[0], ca.Client(t, who.own)); (err == nil) != who.may {
			t.Errorf("%s: may %v, got %v", who.name, who.may, err)
		}
	}
	ca.Issue(t, "serves", authority.Loopback("member"))
	ca.Issue(t, "dials", authority.Loopback("member"))
	all[2].last.stop(t)
	all[2].start(t)
	checkCluster(t, all)
}

// askPeerPort asks a member for the members, as another member does.
func askPeerPort(m *member, c *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: process.Patience}, "tcp", strings.TrimPrefix(m.peer, "https://"), c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(process.Patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("GET /members HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")); err != nil {
		return err
	}
	status := make([]byte, len("HTTP/1.1 200"))
	if _, err := conn.Read(status); err != nil {
		return err
	}
	if string(status) != "HTTP/1.1 200" {
		return fmt.Errorf("it says %q", status)
	}
	return nil
}

// TestMembersWithCertificatesOfTheirOwnMaking make a cluster.
func TestMembersWithCertificatesOfTheirOwnMaking(t *testing.T) {
	t.Parallel()
	checkCluster(t, clusterOf(t, 3, func(int) []string { return []string{"--peer-auto-tls"} }))
}
