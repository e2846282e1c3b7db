package member

import "github.com/ashlar-kv/ashlar/internal/pacing"

// asked counts what clients ask: entries that are applied and views that are opened.
func (m *Member) asked() uint64 { return m.node.Applied() + m.Store().Views() }

// askedOnceReady is asked for who may be at work before the member serves anybody.
func (m *Member) askedOnceReady() uint64 {
	select {
	case <-m.ready:
		return m.asked()
	default:
		return 0
	}
}

func (m *Member) demand() *pacing.Demand { return pacing.NewDemand(m.asked, m.cfg.Clock.Now()) }

// newStints are those of whoever makes or sends a database file.
func (m *Member) newStints() *pacing.Stints {
	return pacing.NewStints(m.cfg.Clock, m.stop, m.demand().Busy).Gently()
}
