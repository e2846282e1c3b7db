package h2

import "sync"

// workers are goroutines whose stacks have grown with earlier calls. The one that rested last works first.
type workers struct {
	max int

	mu     sync.Mutex
	idle   []chan *stream
	closed bool
}

// run serves a call in a goroutine of its own.
func (w *workers) run(s *stream) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		c <- s
		return
	}
	w.mu.Unlock()
	go w.work(s)
}

func (w *workers) work(s *stream) {
	next := make(chan *stream, 1)
	for {
		s.serve()
		s.c.srv.handlers.Done()
		s = nil
		if !w.rest(next) {
			return
		}
		var ok bool
		if s, ok = <-next; !ok {
			return
		}
	}
}

// rest makes a worker wait for work; false when there is no need of it.
func (w *workers) rest(next chan *stream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= w.max {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// close ends the workers that rest; those at work end after it.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.idle {
		close(c)
	}
	w.idle = nil
}
