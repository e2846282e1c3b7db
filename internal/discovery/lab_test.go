package discovery

import (
	"context"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is a DNS server on a loopback port.
type zone struct {
	mu      sync.Mutex
	srv     map[string][]net.SRV // by name with a final dot
	hosts   map[string]string    // IPv4 by name with a final dot
	packets net.PacketConn
}

// serveZone starts a DNS server and returns it with a resolver that asks it alone.
func serveZone(t *testing.T, srv map[string][]net.SRV, hosts map[string]string) *net.Resolver {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{srv: srv, hosts: hosts, packets: packets}
	var done sync.WaitGroup
	done.Go(func() { z.serve(t) })
	t.Cleanup(func() {
		if err := packets.Close(); err != nil {
			t.Error(err)
		}
		done.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", packets.LocalAddr().String())
	}}
}

func (z *zone) serve(t *testing.T) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := z.packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		var question dnsmessage.Message
		if err := question.Unpack(buffer[:n]); err != nil || len(question.Questions) != 1 {
			t.Errorf("a question that cannot be read: %v", err)
			continue
		}
		answer, err := z.answer(question).Pack()
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := z.packets.WriteTo(answer, from); err != nil {
			return
		}
	}
}

func (z *zone) answer(m dnsmessage.Message) *dnsmessage.Message {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := m.Questions[0]
	out := &dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	records, isService := z.srv[q.Name.String()]
	address, isHost := z.hosts[q.Name.String()]
	switch {
	case !isService && !isHost:
		out.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeSRV:
		for _, r := range records {
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.SRVResource{
				Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: dnsmessage.MustNewName(r.Target)}})
		}
	case q.Type == dnsmessage.TypeA && isHost:
		out.Answers = append(out.Answers, dnsmessage.Resource{Header: header,
			Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())}})
	}
	return out
}
