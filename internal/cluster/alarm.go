package cluster

import (
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// AlarmType is numbered as in etcdserverpb.
type AlarmType int32

// The alarms.
const (
	AlarmNone AlarmType = iota
	AlarmNoSpace
	AlarmCorrupt
)

// Alarm is one alarm of a member.
type Alarm struct {
	Member ID
	Type   AlarmType
}

// Alarms are those of one state database. Reading is safe from any goroutine; Begin and what follows belongs to apply.
type Alarms struct{}

// LoadAlarms reads the alarms of a state.
func LoadAlarms(*storage.DB) (*Alarms, error) { return &Alarms{}, nil }

// List returns all alarms.
func (a *Alarms) List() []Alarm { return nil }

// Active tells whether any member has an alarm of a type.
func (a *Alarms) Active(AlarmType) bool { return false }

// Begin starts a group's change; its records go into b.
func (a *Alarms) Begin(*storage.Batch) *AlarmChange { return &AlarmChange{} }

// AlarmChange is what one group of entries does to the alarms.
type AlarmChange struct{}

// Active tells whether any member has an alarm of a type, as the group sees it.
func (c *AlarmChange) Active(AlarmType) bool { return false }

// Publish makes the change visible, after its batch was committed.
func (c *AlarmChange) Publish() {}
