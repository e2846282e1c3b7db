package main

import (
	"context"
	"os"
	"time"
)

// usage is what processes have used so far.
type usage struct {
	cpu, client time.Duration
	written     int64
}

// usage adds up the running members.
func (c *cluster) usage() (usage, error) {
	var u usage
	var err error
	if u.client, err = cpuTime(os.Getpid()); err != nil {
		return u, err
	}
	for _, m := range c.members {
		cpu, err := cpuTime(m.pid())
		if err != nil {
			return u, err
		}
		written, err := writtenBytes(m.pid())
		if err != nil {
			return u, err
		}
		u.cpu, u.written = u.cpu+cpu, u.written+written
	}
	return u, nil
}

// memory adds up what read tells of each member.
func (c *cluster) memory(read func(pid int) (int64, error)) (float64, error) {
	var sum int64
	for _, m := range c.members {
		n, err := read(m.pid())
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum), nil
}

const (
	quietStep  = 50 * time.Millisecond
	quietShare = 0.1 // of one core, for each member
)

// settle waits until the members use little CPU, for at most the time given.
func (c *cluster) settle(ctx context.Context, most time.Duration) error {
	step := time.NewTicker(quietStep)
	defer step.Stop()
	before, err := c.usage()
	if err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < most; {
		at := time.Now()
		select {
		case <-step.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now, err := c.usage()
		if err != nil {
			return err
		}
		if (now.cpu - before.cpu).Seconds() < quietShare*time.Since(at).Seconds()*float64(len(c.members)) {
			return nil
		}
		before = now
	}
	return nil
}

// measure runs work and returns what it has counted, with what the servers have used for it. Work that fails as a whole makes
// the turn fail.
func (c *cluster) measure(ctx context.Context, settle time.Duration, work func() (tally, error)) Turn {
	if err := c.settle(ctx, settle); err != nil {
		return failedTurn(err)
	}
	for _, m := range c.members {
		if err := resetPeak(m.pid()); err != nil {
			return failedTurn(err)
		}
	}
	before, err := c.usage()
	if err != nil {
		return failedTurn(err)
	}
	counted, err := work()
	if err != nil {
		return failedTurn(err)
	}
	turn := counted.turn()
	// The client waits from here on: what it has used is taken before.
	client, err := cpuTime(os.Getpid())
	if err != nil {
		return failedTurn(err)
	}
	if err := c.settle(ctx, settle); err != nil {
		return failedTurn(err)
	}
	after, err := c.usage()
	if err != nil {
		return failedTurn(err)
	}
	peak, err := c.memory(peakBytes)
	if err != nil {
		return failedTurn(err)
	}
	turn.Metrics[Peak] = peak
	if n := float64(turn.Operations); n > 0 {
		turn.Metrics[CPU] = (after.cpu - before.cpu).Seconds() / n
		turn.Metrics[ClientCPU] = (client - before.client).Seconds() / n
		turn.Metrics[Written] = float64(after.written-before.written) / n
	}
	return turn
}
