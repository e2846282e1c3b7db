package server

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/wire"
)

// dialWire connects with a member.
func dialWire(t *testing.T, x *solo) *wire.Conn {
	t.Helper()
	return wire.Dial(t, "unix", x.dir+"/c")
}

// seesPingsCounted pings more often than allowed, and than forbidden.
func seesPingsCounted(t *testing.T, l *flagLab, name string) {
	for value, allowed := range map[string]bool{"1ns": true, "1h": false} {
		w := dialWire(t, l.solo(t, Host{}, "--"+name+"="+value))
		n := 0
		for n < 20 && w.Answers() {
			n++
		}
		if (n == 20) != allowed {
			t.Errorf("--%s=%s: %d pings are answered", name, value, n)
		}
	}
}

// seesServerPing is silent towards two servers: the one that is to ping does so, although the other one heard nothing for longer.
func seesServerPing(t *testing.T, l *flagLab, name string) {
	patient := dialWire(t, l.solo(t, Host{}, "--"+name+"=1h"))
	w := dialWire(t, l.solo(t, Host{}, "--"+name+"=1s"))
	w.WaitPing(t)
	if !patient.Answers() {
		t.Error("one that is to ping after an hour has done so, too")
	}
}

// seesServerGiveUp does not answer the pings of two servers: the one that is to give up does so, although the other one waits for
// longer.
func seesServerGiveUp(t *testing.T, l *flagLab, name string) {
	patient := dialWire(t, l.solo(t, Host{}, "--grpc-keepalive-interval=1s", "--"+name+"=1h"))
	patient.WaitPing(t)
	w := dialWire(t, l.solo(t, Host{}, "--grpc-keepalive-interval=1s", "--"+name+"=1s"))
	w.WaitPing(t)
	w.WaitEnd()
	if !patient.Answers() {
		t.Error("one that is to wait for an hour has given up, too")
	}
}

// silence is another member that opens streams and says nothing.
type silence struct {
	clock         *pacedClock // of the member that it is silent to
	opened, ended atomic.Int64
}

// besideSilence runs a member of a cluster with one.
func besideSilence(t *testing.T, l *flagLab, flags ...string) *silence {
	t.Helper()
	s := &silence{clock: newPacedClock()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/raft/stream/") {
			http.NotFound(w, r)
			return
		}
		s.opened.Add(1)
		_ = http.NewResponseController(w).Flush() // if it fails, that is the end below
		<-r.Context().Done()
		s.ended.Add(1)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	l.solo(t, Host{Clock: s.clock}, append([]string{"--name=m1", "--initial-advertise-peer-urls=http://127.0.0.1:7",
		"--initial-cluster=m1=http://127.0.0.1:7,m2=" + server.URL}, flags...)...)
	eventually(t, "both streams are open", func() bool { return s.opened.Load() == 2 })
	return s
}

// seesSilentStreamsEnd lets time pass for two members: the one that is to end silent streams by then does so, and not the other.
func seesSilentStreamsEnd(t *testing.T, l *flagLab, name string) {
	patient, other := besideSilence(t, l, "--"+name+"=9s"), besideSilence(t, l, "--"+name+"=6s")
	patient.clock.Advance(9*time.Second - 1)
	other.clock.Advance(6*time.Second - 1)
	if patient.ended.Load()+other.ended.Load() != 0 {
		t.Error("a stream is ended too early")
	}
	other.clock.Advance(1)
	eventually(t, "silent streams end", func() bool { return other.ended.Load() == 2 })
	if patient.ended.Load() != 0 {
		t.Error("those that may be silent for longer are ended, too")
	}
	patient.clock.Advance(1)
	eventually(t, "silent streams end", func() bool { return patient.ended.Load() == 2 })
}

// seesLateWritesFail opens a stream of members whose clock is an hour slow: what they give a write of less than that is over.
func seesLateWritesFail(t *testing.T, l *flagLab, name string) {
	for value, late := range map[string]bool{"5s": true, "2h": false} {
		other := newStand(t)
		x := l.solo(t, Host{Clock: newPacedClockAt(time.Now().Add(-time.Hour))}, append(besides(t, other), "--"+name+"="+value)...)
		status := 0
		eventually(t, "the other member is known", func() bool {
			resp, err := l.get(t, filepath.Base(x.dir)+"/p", http.MethodGet, "/raft/stream/message/"+other.id.String(), func(r *http.Request) {
				for header, value := range map[string]string{"X-Server-From": other.id.String(), "X-Server-Version": "3.7.1", "X-Min-Cluster-Version": "3.0.0",
					"X-Etcd-Cluster-ID": cluster.ID(x.ClusterID()).String(), "X-Raft-To": cluster.ID(x.ID()).String()} {
					r.Header.Set(header, value)
				}
			})
			if status = 0; err == nil {
				status = resp.StatusCode
				_ = resp.Body.Close()
			}
			return status != http.StatusNotFound
		})
		if want := map[bool]int{false: http.StatusOK, true: 0}[late]; status != want {
			t.Errorf("--%s=%s: the stream opens with status %d", name, value, status)
		}
	}
}

// registryPings are of members that ask a registry which answers nothing, not even pings. gRPC waits ten seconds at the least before
// it pings, so they begin with the lab, those that must not end before the others first.
type registryPings struct {
	idle    *wire.Conn // not to be pinged for an hour
	patient *wire.Conn // pinged, and waited for an hour
	hasty   *wire.Conn // pinged, and waited for a second
}

func startRegistryPings(t *testing.T) *registryPings {
	t.Helper()
	return &registryPings{
		idle:    beMute(t, "--discovery-keepalive-time=1h"),
		patient: beMute(t, "--discovery-keepalive-time=10s", "--discovery-keepalive-timeout=1h"),
		hasty:   beMute(t, "--discovery-keepalive-time=10s", "--discovery-keepalive-timeout=1s"),
	}
}

// beMute takes the request of a member with these flags.
func beMute(t *testing.T, flags ...string) *wire.Conn {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	seek(t, append([]string{"--discovery-token=t", "--discovery-endpoints=" + lis.Addr().String(), "--discovery-request-timeout=1h"}, flags...)...)
	w := wire.Accept(t, lis)
	w.WaitRequest()
	return w
}

// registryProofs are carried out in their order, the last of all.
var registryProofs = map[string]proof{
	"discovery-keepalive-time": func(t *testing.T, l *flagLab, _ string) {
		l.pings.hasty.WaitPing(t)
		if !l.pings.idle.Answers() {
			t.Error("who is to ping after an hour has done so")
		}
	},
	"discovery-keepalive-timeout": func(t *testing.T, l *flagLab, _ string) {
		l.pings.hasty.WaitEnd()
		l.pings.patient.WaitPing(t)
		if !l.pings.patient.Answers() {
			t.Error("who is to wait for an hour has given up")
		}
	},
}
