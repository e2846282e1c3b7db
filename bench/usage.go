package main

import (
	"context"
	"os"
	"runtime/debug"
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
	quietShare = 0.1      // of one core, for each member
	quietBytes = 16 << 10 // written in a step, by each member
	// quietSteps must follow each other: etcd writes what it holds back up to 0.1 s later, and a compaction of ours may wait for the disk.
	// When only little time is given, less of it is enough.
	quietSteps   = 5
	quietPortion = 4
)

// settle waits until the members have used little CPU and written next to nothing for a while, for at most the time given.
func (c *cluster) settle(ctx context.Context, most time.Duration) error {
	step := time.NewTicker(quietStep)
	defer step.Stop()
	before, err := c.usage()
	if err != nil {
		return err
	}
	wanted := quietStepsIn(most)
	for begin, quiet := time.Now(), 0; quiet < wanted && time.Since(begin) < most; {
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
		if now.quietSince(before, time.Since(at), len(c.members)) {
			quiet++
		} else {
			quiet = 0
		}
		before = now
	}
	return nil
}

// quietStepsIn is how many quiet steps settle wants when it may take that long.
func quietStepsIn(most time.Duration) int {
	return max(1, min(quietSteps, int(most/quietPortion/quietStep)))
}

// quietSince says whether so many members were quiet since the time of before, which is that long ago.
func (u usage) quietSince(before usage, ago time.Duration, members int) bool {
	return (u.cpu-before.cpu).Seconds() < quietShare*ago.Seconds()*float64(members) && u.written-before.written < quietBytes*int64(members)
}

// measure runs work and returns what it has counted, with what the servers have used for it. Work that fails as a whole makes
// the turn fail.
func (c *cluster) measure(ctx context.Context, settle time.Duration, work func() (tally, error)) Turn {
	if err := c.settle(ctx, settle); err != nil {
		return failedTurn(err)
	}
	c.touch()
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

// touchedBytes is how much memory is touched for each key before a turn: enough for an answer with all of them, on the servers and the clients.
const touchedBytes = 4 << 10

// touch touches memory once a turn.
func (c *cluster) touch() {
	if c.touched > 0 {
		touchMemory(c.touched)
		c.touched = 0
	}
}

// touchMemory takes memory, writes to it and gives it back. On a virtual machine free memory may be its host's: who is the first to use some then
// waits for it, five times as long as for memory that was in use just before, and that would be whoever has the first turn.
func touchMemory(bytes int) {
	taken := make([]byte, bytes)
	for at, page := 0, os.Getpagesize(); at < len(taken); at += page {
		taken[at] = 1
	}
	debug.FreeOSMemory()
}
