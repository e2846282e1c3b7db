package watch

import "context"

// Poll is Next without waiting, for callers that step the stream themselves: it returns nil when there is no message now.
func (s *Stream) Poll() (*Message, error) {
	for {
		m, work, err := s.poll()
		if m != nil || err != nil || !work {
			return m, err
		}
		if err := s.catchUpInTurn(context.Background()); err != nil {
			return nil, err
		}
	}
}
