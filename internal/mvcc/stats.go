package mvcc

// Stats are numbers of a store for metrics.
type Stats struct {
	// Keys is how many keys live.
	Keys int64
	// Removed is how many versions compactions have deleted since Open.
	Removed uint64
	// Users is how many hold the database open: views that read, and work in the background.
	Users int
}

// Stats returns the numbers as they are now.
func (s *Store) Stats() Stats {
	s.gate.mu.Lock()
	users := s.gate.users
	s.gate.mu.Unlock()
	return Stats{Keys: s.now.Load().runs.live, Removed: s.removed.Value(), Users: users}
}
