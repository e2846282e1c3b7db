package apply

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// alarms returns the group's change of the alarms.
func (g *group) alarms() *cluster.AlarmChange {
	if g.alarmChange == nil {
		g.alarmChange = g.m.alarms.Begin(g.w.Batch())
	}
	return g.alarmChange
}

func (g *group) alarm([]byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnknownCommand, CommandAlarm)
}

// alarmed returns why an alarm refuses a command, nil when none does.
func (g *group) alarmed(Command, []byte) error { return nil }
