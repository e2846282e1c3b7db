package peer

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// answering serves some answers as a member of cluster 7.
func answering(t *testing.T, a Answers) (*Client, []string) {
	t.Helper()
	s := newSite(t, 1, 7)
	s.Transport.answers = a
	return &Client{HTTP: http.DefaultTransport, Cluster: 7}, []string{s.server.URL}
}

func TestAChainedHashIsAskedFor(t *testing.T) {
	t.Parallel()
	want := Chain{Version: 1, Point: &Point{Index: 9, Base: 4, Hash: 1<<64 - 1}}
	c, urls := answering(t, Answers{Chain: func(index uint64) Chain {
		if index != 1<<64-1 {
			t.Errorf("asked for %d", index)
		}
		return want
	}})
	got, err := c.Chain(t.Context(), urls, 1<<64-1)
	if err != nil || got.Version != 1 || got.Point == nil || *got.Point != *want.Point || got.Ended != nil {
		t.Errorf("got %+v, error %v", got, err)
	}
	var r *Refusal
	if _, err := (&Client{HTTP: http.DefaultTransport, Cluster: 8}).Chain(t.Context(), urls, 1); !errors.As(err, &r) || r.Status != http.StatusPreconditionFailed {
		t.Errorf("of another cluster: %v", err)
	}
	resp, err := http.Get(urls[0] + pathChain + "?index=-1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a number that is none: %s", resp.Status)
	}
}

func TestAStateIsSentWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	whole := strings.Repeat("state", 200_000)
	broken := errors.New("the disk")
	var next io.Reader
	closed := 0
	c, urls := answering(t, Answers{State: func() (io.ReadCloser, error) {
		if next == nil {
			return nil, errors.New("another one is being sent")
		}
		return &closing{next, &closed}, nil
	}})
	next = strings.NewReader(whole)
	s, err := c.State(t.Context(), urls, clock.Real())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != whole {
		t.Errorf("%d bytes of %d, error %v", len(b), len(whole), err)
	}
	if err := s.Close(); err != nil || closed != 1 {
		t.Errorf("closed %d times, error %v", closed, err)
	}

	next = io.MultiReader(strings.NewReader(whole), failing{broken})
	s, err = c.State(t.Context(), urls, clock.Real())
	if err == nil {
		_, err = io.ReadAll(s)
		s.Close()
	}
	if err == nil {
		t.Error("a state that broke off looks whole")
	}

	next = nil
	var r *Refusal
	if _, err := c.State(t.Context(), urls, clock.Real()); !errors.As(err, &r) || r.Status != http.StatusServiceUnavailable {
		t.Errorf("a refusal: %v", err)
	}
	resp, err := http.Get(urls[0] + pathState)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("who does not name the cluster: %s", resp.Status)
	}
}

func TestAStateThatMakesNoProgressEnds(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release
	}))
	defer silent.Close()
	defer close(release)
	manual := clock.NewManual(time.Unix(1, 0))
	s, err := (&Client{HTTP: http.DefaultTransport, Cluster: 7}).State(t.Context(), []string{silent.URL}, manual)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	manual.Advance(stateStall)
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, errStateStalled) {
		t.Errorf("got %v, want %v", err, errStateStalled)
	}
}

type closing struct {
	io.Reader
	n *int
}

func (c *closing) Close() error { *c.n++; return nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
