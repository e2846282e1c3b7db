package watch

import "context"

// Next waits for the next message to write and returns it. The work of those that are behind is done in it, a chunk
// at a time and in turns with the messages of the others. It returns ErrClosed after Close, the error of ctx, and an
// error of the store, after which the stream is of no more use. The message is valid until the next call.
func (s *Stream) Next(ctx context.Context) (*Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, work, err := s.poll()
		if m != nil || err != nil {
			return m, err
		}
		if !work {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		read := s.reading.chunk.bytes
		if err := s.catchUpInTurn(ctx); err != nil {
			return nil, err
		}
		if read = s.reading.chunk.bytes - read; s.rest != nil && read > 0 {
			s.rest(ctx, read)
		}
	}
}

// Ready is Next if that needs neither waiting nor work; nil otherwise.
func (s *Stream) Ready(ctx context.Context) (*Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, _, err := s.poll()
	return m, err
}

// Rest has a function called by Next between two steps of reading a chunk of history, of about a millisecond, with the bytes that the
// first of them has read; nothing is locked meanwhile. It is to be called before the first Next.
func (s *Stream) Rest(rest func(ctx context.Context, bytes int)) { s.rest = rest }

// catchUpInTurn is catchUp once there is a place for it. While there is none it returns as soon as there is a message
// for others.
func (s *Stream) catchUpInTurn(ctx context.Context) error {
	select {
	case s.hub.catching <- struct{}{}:
	default:
		if s.isReady() {
			return nil
		}
		select {
		case s.hub.catching <- struct{}{}:
		case <-s.wake:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	defer func() { <-s.hub.catching }()
	return s.catchUp(ctx)
}

func (s *Stream) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || !s.ready.empty()
}

// poll takes the next message if there is one; work tells that a chunk should be read now.
func (s *Stream) poll() (m *Message, work bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return nil, false, ErrClosed
		}
		if len(s.parts) > 0 {
			m, s.parts = s.parts[0], s.parts[1:]
			return m, false, nil
		}
		s.land()
		s.spare.given()
		switch {
		case s.ready.created > 0, // what the chunk holds may be for the one that was created
			len(s.ready.marks) > 0, // and is later than what a progress mark covers
			!s.ready.empty() && (!s.chunkTurn || s.chunk.empty() && !s.isBehind()):
			m = s.fromQueue(&s.ready)
			s.chunkTurn = true
		case !s.chunk.empty():
			m = s.fromQueue(&s.chunk)
			s.chunkTurn = false
		case s.isBehind():
			s.chunkTurn = false
			return nil, true, nil
		default:
			if s.reading.held > 0 || s.reading.chunk.phase != idle {
				s.forget() // whoever it was for has gone
			}
			return nil, false, nil
		}
		if m != nil {
			return m, false, nil
		}
	}
}
