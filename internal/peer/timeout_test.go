package peer

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// TestASilentStreamIsOpenedAgain gives a transport a short limit and a remote that says nothing.
func TestASilentStreamIsOpenedAgain(t *testing.T) {
	t.Parallel()
	opened := make(chan string, 100)
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case opened <- r.URL.Path:
		default:
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	tr := New(Config{
		HTTP: &http.Transport{}, PeerURLs: []string{"http://127.0.0.1:1"}, ReadTimeout: 10 * time.Millisecond,
		Clock: clock.Real(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Removed: func() {},
	})
	t.Cleanup(func() {
		tr.Close()
		silent.CloseClientConnections()
		silent.Close()
	})
	tr.Start(Identity{Member: 1, Cluster: testCluster}, &site{}, Answers{})
	tr.AddRemote(2, []string{silent.URL})
	for seen := map[string]int{}; len(seen) < 2 || min(seen["/raft/stream/msgapp/1"], seen["/raft/stream/message/1"]) < 2; {
		seen[receive(t, opened, "a stream")]++
	}
}

// TestWhoeverIsSilentInTheMidstOfARequestIsCutOff, whether anybody reads the rest of it or not.
func TestWhoeverIsSilentInTheMidstOfARequestIsCutOff(t *testing.T) {
	t.Parallel()
	tr := New(Config{
		HTTP: &http.Transport{}, Clock: clock.NewManual(time.Now().Add(10*time.Millisecond - receiveTimeout)), // for which the limit comes soon
		Logger: slog.New(slog.DiscardHandler), Removed: func() {},
	})
	tr.Start(Identity{Member: 1, Cluster: testCluster}, &site{}, (&site{}).answers())
	server := httptest.NewServer(tr.Handler())
	t.Cleanup(func() {
		tr.Close()
		server.CloseClientConnections()
		server.Close()
	})
	for _, line := range []string{
		"POST /raft", "POST /raft/snapshot", "POST /leases", "POST /leases/internal", "GET /members/hashkv", "GET /raft/probing", "GET /version",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, line+" HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\nabc"); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it keeps the connection")
			}
		})
	}
}

func TestTimeoutsHaveADefault(t *testing.T) {
	t.Parallel()
	tr := New(Config{WriteTimeout: time.Hour})
	if tr.cfg.ReadTimeout != DefaultTimeout || tr.cfg.WriteTimeout != time.Hour {
		t.Errorf("got %v and %v", tr.cfg.ReadTimeout, tr.cfg.WriteTimeout)
	}
}
