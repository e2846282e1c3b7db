package clock

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestAdvanceFiresInTheOrderOfTheDueTimes(t *testing.T) {
	t.Parallel()
	m := NewManual(start)
	var fired []string
	at := func(name string) func() {
		return func() { fired = append(fired, fmt.Sprint(name, " at ", m.Now().Sub(start))) }
	}
	m.AfterFunc(3*time.Second, at("c"))
	m.AfterFunc(time.Second, at("a"))
	m.AfterFunc(time.Second, at("b"))
	stopped := m.AfterFunc(2*time.Second, at("stopped"))
	m.AfterFunc(2*time.Second, func() { m.AfterFunc(500*time.Millisecond, at("made while firing")) })
	late := m.AfterFunc(time.Second, at("late"))
	if !stopped.Stop() || stopped.Stop() || !late.Reset(time.Hour) {
		t.Fatal("Stop and Reset tell the wrong thing")
	}
	m.Advance(10 * time.Second)
	want := []string{"a at 1s", "b at 1s", "made while firing at 2.5s", "c at 3s"}
	if !slices.Equal(fired, want) || m.Now() != start.Add(10*time.Second) {
		t.Fatalf("%q at %v", fired, m.Now())
	}
}

func TestATickerTicksAndDropsWhatNobodyTakes(t *testing.T) {
	t.Parallel()
	m := NewManual(start)
	tick := m.NewTicker(time.Second)
	m.Advance(3500 * time.Millisecond)
	if got := <-tick.C(); got != start.Add(time.Second) {
		t.Fatalf("the first tick is %v", got)
	}
	if len(tick.C()) != 0 {
		t.Fatal("ticks were queued")
	}
	m.Advance(500 * time.Millisecond)
	if got := <-tick.C(); got != start.Add(4*time.Second) {
		t.Fatalf("the next tick is %v", got)
	}
	tick.Reset(time.Minute)
	m.Advance(59 * time.Second)
	if len(tick.C()) != 0 {
		t.Fatal("a tick of the old period")
	}
	tick.Stop()
	m.Advance(time.Hour)
	if len(tick.C()) != 0 {
		t.Fatal("a tick after Stop")
	}
}

func TestAStoppedTimerLeavesNothingInItsChannel(t *testing.T) {
	t.Parallel()
	m := NewManual(start)
	timer := m.NewTimer(time.Second)
	m.Advance(time.Second)
	if timer.Stop() || len(timer.C()) != 0 {
		t.Fatal("the channel holds a time from before Stop")
	}
	timer.Reset(time.Second)
	m.Advance(time.Second)
	if got := <-timer.C(); got != start.Add(2*time.Second) {
		t.Fatalf("fired at %v", got)
	}
}

func TestWaitPendingSeesATimerOfAnotherGoroutine(t *testing.T) {
	t.Parallel()
	m := NewManual(start)
	woken := make(chan time.Time)
	go func() { woken <- <-m.NewTimer(time.Minute).C() }()
	m.WaitPending(1)
	m.Advance(time.Minute)
	if got := <-woken; got != start.Add(time.Minute) {
		t.Fatalf("woken at %v", got)
	}
}

func TestTheRealClockWakes(t *testing.T) {
	t.Parallel()
	c := Real()
	before := c.Now()
	ran := make(chan struct{})
	c.AfterFunc(time.Millisecond, func() { close(ran) })
	<-ran
	<-c.NewTimer(time.Millisecond).C()
	tick := c.NewTicker(time.Millisecond)
	<-tick.C()
	tick.Stop()
	if !c.Now().After(before) {
		t.Fatal("the clock stands still")
	}
}
