package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/web"
)

// health returns what the health of a member is told from.
func health(m *member.Member) web.Member {
	return web.Member{
		Alarms:    func() []string { return alarmNames(m.Alarms().List()) },
		HasLeader: m.HasLeader,
		Read:      func(ctx context.Context, serializable bool) error { return read(ctx, m, serializable) },
		Learner:   func() bool { return m.Status().Learner },
	}
}

// errStarting is why a member is not healthy that has not applied again what it had applied before its start.
var errStarting = errors.New("the member is starting")

// read reads a key that is not there.
func read(ctx context.Context, m *member.Member, serializable bool) (err error) {
	select {
	case <-m.Node().Replayed():
	default:
		return errStarting // addresses for health are served from the start
	}
	if err := m.Trusted(); err != nil {
		return err
	}
	if !serializable {
		if err := m.ReadBarrier(ctx); err != nil {
			return err
		}
	}
	v, err := m.View(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	_, _, err = v.Get([]byte("health"))
	return err
}

// alarmNames returns the alarms that make a member unhealthy, each once, the worst first.
func alarmNames(alarms []cluster.Alarm) (names []string) {
	var has [2]bool
	for _, a := range alarms {
		switch a.Type {
		case cluster.AlarmCorrupt:
			has[0] = true
		case cluster.AlarmNoSpace:
			has[1] = true
		}
	}
	if has[0] {
		names = append(names, cluster.AlarmCorrupt.String())
	}
	if has[1] {
		names = append(names, cluster.AlarmNoSpace.String())
	}
	return names
}

// alarmTexts returns the alarms as Status tells them: as etcd prints its messages, with the two blanks that its released
// program has there; how many there are is left to each build of it.
func alarmTexts(alarms []cluster.Alarm) []string {
	var out []string
	for _, a := range alarms {
		if a.Member == 0 {
			out = append(out, fmt.Sprintf("alarm:%s", a.Type))
			continue
		}
		out = append(out, fmt.Sprintf("memberID:%d  alarm:%s", uint64(a.Member), a.Type))
	}
	return out
}
