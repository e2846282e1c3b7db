package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
)

// TestWhoIsInTheClusterIsAskedOfAMemberThatIsBeingOpened by ours, who know to ask again, and by etcd's.
func TestWhoIsInTheClusterIsAskedOfAMemberThatIsBeingOpened(t *testing.T) {
	t.Parallel()
	for name, ran := range map[string]bool{"one that has data": true, "one that has none": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := NewEarly(ran)
			s := httptest.NewServer(e)
			t.Cleanup(s.Close)
			ask := func() error {
				_, _, err := (&Client{HTTP: http.DefaultTransport}).Members(t.Context(), []string{s.URL})
				return err
			}
			var r *Refusal
			if err := ask(); !errors.As(err, &r) || r.Status != http.StatusServiceUnavailable || errors.Is(err, ErrOpening) != ran {
				t.Errorf("one of ours is told: %v", err)
			}
			of := get(t.Context(), t, s.URL+pathMembers)
			if ran {
				waits(e, 1)
			} else if status := <-of; status != http.StatusServiceUnavailable {
				t.Errorf("one of etcd's is told %d", status)
			}
			e.Open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(headerCluster, "7")
				_, _ = io.WriteString(w, "[]")
			}))
			if status := <-of; ran && status != http.StatusOK {
				t.Errorf("one of etcd's is told %d once it is open", status)
			}
			if err := ask(); err != nil {
				t.Errorf("one of ours is told once it is open: %v", err)
			}
		})
	}
}

// TestWhatIsAskedWhileAMemberIsBeingOpenedWaits, but for what is too much.
func TestWhatIsAskedWhileAMemberIsBeingOpenedWaits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		then func(e *Early, cancel context.CancelFunc)
		want int // status, 0 for an error
	}{
		"until it is open": {func(e *Early, _ context.CancelFunc) {
			e.Open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		}, http.StatusTeapot},
		"until it ends":          {func(e *Early, _ context.CancelFunc) { e.End(); e.End() }, http.StatusServiceUnavailable},
		"until the asker leaves": {func(_ *Early, cancel context.CancelFunc) { cancel() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := NewEarly(false)
			s := httptest.NewServer(e)
			t.Cleanup(s.Close)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for range earlyMax - 1 {
				e.waiting <- struct{}{}
			}
			first := get(ctx, t, s.URL+"/version")
			waits(e, earlyMax)
			if status := <-get(ctx, t, s.URL+"/version"); status != http.StatusServiceUnavailable {
				t.Errorf("one more than may wait is told %d", status)
			}
			c.then(e, cancel)
			if status := <-first; status != c.want {
				t.Errorf("it is told %d, want %d", status, c.want)
			}
			waits(e, earlyMax-1)
		})
	}
}

// get asks for a page, and returns a channel of its status, 0 for an error, that is closed behind it.
func get(ctx context.Context, t *testing.T, url string) <-chan int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	status := make(chan int, 1)
	go func() {
		defer close(status)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	return status
}

// waits returns once n requests wait.
func waits(e *Early, n int) {
	for len(e.waiting) != n {
		runtime.Gosched()
	}
}
