package watch

// spare is memory that a stream with many watchers of the same keys uses again and again: the message that it has given out, and
// pending lists of watchers that have got what was in them. The stream's lock guards it.
type spare struct {
	lists [][]*encoded
	last  Message
}

const (
	// spareLists bounds the lists that are kept, spareEvents the events that one of them, or a message, has room for.
	spareLists  = 256
	spareEvents = 16
)

// take returns an empty list, nil when none is kept.
func (s *spare) take() []*encoded {
	n := len(s.lists)
	if n == 0 {
		return nil
	}
	list := s.lists[n-1]
	s.lists = s.lists[:n-1]
	return list
}

// keep takes back the list of a watcher that has got all that was in it.
func (s *spare) keep(list []*encoded) {
	if cap(list) > spareEvents || len(s.lists) == spareLists {
		return
	}
	clear(list)
	s.lists = append(s.lists, list[:0])
}

// message returns an empty message for n events. REQUIRES: the one before is not needed any more.
func (s *spare) message(n int) *Message {
	if n > spareEvents {
		return &Message{Events: make([][]byte, 0, n)}
	}
	events := s.last.Events
	if cap(events) < n {
		events = make([][]byte, 0, spareEvents)
	}
	s.last = Message{Events: events[:0]}
	return &s.last
}

// given forgets what the message that was given out holds.
func (s *spare) given() {
	clear(s.last.Events)
	s.last.Events = s.last.Events[:0]
}
