package peer

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
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

// limits are the limits of reads that a request was given, the last one first.
type limits struct {
	http.ResponseWriter
	set []time.Time
}

func (l *limits) SetReadDeadline(at time.Time) error {
	l.set = append([]time.Time{at}, l.set...)
	return nil
}

// TestARequestHasNoLimitOnceItsBodyHasEnded, however often somebody looks for more: the HTTP server goes on reading while the request is at
// work, and would take a limit for the end of who asked.
func TestARequestHasNoLimitOnceItsBodyHasEnded(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]io.Reader{
		"its end comes with the last bytes": iotest.DataErrReader(strings.NewReader("body")),
		"its end comes by itself":           strings.NewReader("body"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l limits
			now := time.Unix(1_700_000_000, 0)
			body := &timedBody{ReadCloser: io.NopCloser(read), clock: clock.NewManual(now), rc: http.NewResponseController(&l)}
			if _, err := io.ReadFull(body, make([]byte, 3)); err != nil || !l.set[0].Equal(now.Add(receiveTimeout)) {
				t.Fatalf("in the midst of it the limit is %v: %v", l.set, err)
			}
			for range 3 {
				if _, err := io.ReadAll(body); err != nil || !l.set[0].IsZero() {
					t.Fatalf("once it has ended the limit is %v: %v", l.set, err)
				}
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
