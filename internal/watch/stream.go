package watch

import "context"

// Stream is a number of watchers whose messages go to one client. All methods may be called from any goroutine, but
// Next from one at a time.
type Stream struct {
	hub *Hub
}

// Create adds a watcher. What becomes of it comes through Next.
func (s *Stream) Create(spec Spec) {}

// Refuse queues the refusal of a watcher.
func (s *Stream) Refuse(reason string) {}

// Cancel ends a watcher; that of an unknown id is silent.
func (s *Stream) Cancel(id int64) {}

// RequestProgress queues a progress mark for all watchers of the stream, with id -1.
func (s *Stream) RequestProgress() {}

// NotifyProgress queues progress marks for idle watchers that asked for them.
func (s *Stream) NotifyProgress() {}

// Next waits for the next message to write and returns it. It returns ErrClosed after Close, and the error of ctx.
func (s *Stream) Next(ctx context.Context) (*Message, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Close ends the stream and its watchers.
func (s *Stream) Close() {}
