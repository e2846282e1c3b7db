package peer

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

func TestTimeoutsHaveADefault(t *testing.T) {
	t.Parallel()
	tr := New(Config{WriteTimeout: time.Hour})
	if tr.cfg.ReadTimeout != DefaultTimeout || tr.cfg.WriteTimeout != time.Hour {
		t.Errorf("got %v and %v", tr.cfg.ReadTimeout, tr.cfg.WriteTimeout)
	}
}
