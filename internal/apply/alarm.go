package apply

import (
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// Alarm is an AlarmRequest.
type Alarm struct {
	Action AlarmAction
	Member uint64
	Type   cluster.AlarmType
}

// AlarmAction is what a request does, numbered as in etcdserverpb.AlarmRequest.
type AlarmAction int32

// The actions.
const (
	AlarmGet AlarmAction = iota
	AlarmActivate
	AlarmDeactivate
)

// ParseAlarm parses an encoded AlarmRequest. The error wraps ErrMalformed.
func ParseAlarm(b []byte) (a Alarm, err error) {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return a, err
		}
		switch f.key {
		case varint(1):
			a.Action = AlarmAction(f.enum())
		case varint(2):
			a.Member = f.n
		case varint(3):
			a.Type = cluster.AlarmType(f.enum())
		}
	}
}

// alarmAlarms is the field of AlarmResponse.
const alarmAlarms = 2

// alarms returns the group's change of the alarms.
func (g *group) alarms() *cluster.AlarmChange {
	if g.alarmChange == nil {
		g.alarmChange = g.m.alarms.Begin(g.w.Batch())
	}
	return g.alarmChange
}

// alarm applies an AlarmRequest. As in etcd the answer names the alarm that was raised, again or anew, or lowered, and nothing
// when there was none to lower; get lists those of the type asked for, of any member, and all for NONE. NONE itself
// cannot be raised. An unknown action does nothing; the member of etcd that proposes one ends, and no member of ours does.
func (g *group) alarm(raw []byte) ([]byte, error) {
	r, err := ParseAlarm(raw)
	if err != nil {
		return nil, err
	}
	c, x := g.alarms(), cluster.Alarm{Member: cluster.ID(r.Member), Type: r.Type}
	switch {
	case r.Action == AlarmGet:
		var body []byte
		for _, a := range c.List() {
			if r.Type == cluster.AlarmNone || r.Type == a.Type {
				body = appendAlarm(body, a)
			}
		}
		return body, nil
	case r.Action == AlarmActivate && r.Type != cluster.AlarmNone:
		return appendAlarm(nil, x), c.Activate(x)
	case r.Action == AlarmDeactivate:
		was, err := c.Deactivate(x)
		if !was || err != nil {
			return nil, err
		}
		return appendAlarm(nil, x), nil
	}
	return nil, nil
}

// appendAlarm appends an AlarmMember.
func appendAlarm(dst []byte, a cluster.Alarm) []byte {
	m := appendNumber(nil, 1, int64(a.Member))
	return appendField(dst, alarmAlarms, appendNumber(m, 2, int64(a.Type)))
}

// alarmed returns why an alarm refuses a command, nil when none does. It comes before any other reason to refuse, and
// CORRUPT before NOSPACE, as in etcd. Reads pass, also those of a transaction that cannot write: they are not
// applied, here as there.
func (g *group) alarmed(cmd Command, raw []byte) error {
	c := g.alarms()
	if c.Active(cluster.AlarmCorrupt) && refusedCorrupt(cmd) {
		return ErrCorrupt
	}
	if c.Active(cluster.AlarmNoSpace) && takesSpace(cmd, raw) {
		return ErrNoSpace
	}
	return nil
}

// refusedCorrupt tells whether a command is refused while members' data differ: whatever could make more of it.
func refusedCorrupt(cmd Command) bool {
	switch cmd {
	case CommandPut, CommandDeleteRange, CommandTxn, CommandCompaction, CommandLeaseGrant, CommandLeaseRevoke:
		return true
	}
	return false
}

// takesSpace tells whether a command may need more space: a transaction does with a put in any branch, at any depth.
func takesSpace(cmd Command, raw []byte) bool {
	switch cmd {
	case CommandPut, CommandLeaseGrant:
		return true
	case CommandTxn:
		t, err := ParseTxn(raw)
		return err == nil && t.Puts() // a malformed one ends the member when it is applied
	}
	return false
}

// Puts tells whether any branch of the transaction, at any depth, has a put.
func (t *Txn) Puts() bool { return !all(t, func(op *Op) bool { return op.Put == nil }) }
