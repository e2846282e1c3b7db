package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// TestSoak does one thing after the other to a cluster under load, drawn from a seed, for the time given by -long.
func TestSoak(t *testing.T) {
	if *longFlag == 0 {
		t.Skip("it runs with -long only")
	}
	seed := uint64(*seedFlag)
	if seed == 0 {
		seed = rand.Uint64() >> 1
	}
	t.Logf("again with: go test ./test/cluster -run Soak -long %v -seed %d", *longFlag, seed)
	c := newClusterOnDisks(t, 3, "--snapshot-catchup-entries", "100", "--quota-backend-bytes", "50000000")
	s := &soak{cluster: c, rng: rand.New(rand.NewPCG(seed, 1)), defragments: defragmentFirst}
	s.begin(seed)
	steps := []struct {
		name string
		do   func()
	}{
		{"a member is killed", s.kill},
		{"a member is stopped", s.stop},
		{"all are killed", s.killAll},
		{"a member stands still", s.freeze},
		{"a member is cut off", s.cut},
		{"all are cut off", s.cutAll},
		{"the network is slow", s.slow},
		{"the network loses packets", s.lose},
		{"a disk is slow", s.slowDisk},
		{"a disk stands still", s.stuckDisk},
		{"a disk is full", s.full},
		{"leadership moves", s.move},
		{"a member is replaced", s.replace},
		{"a member is defragmented", s.defragment},
		{"a snapshot is taken and restored", s.snapshot},
		{"the quota is used up", func() { s.load.overfill(c, s.any()) }},
	}
	begin, done := time.Now(), map[string]int{}
	for n := 0; time.Since(begin) < *longFlag; n++ {
		step := steps[s.rng.IntN(len(steps))]
		at := time.Now()
		step.do()
		done[step.name]++
		s.load.use(c.members)
		s.load.progress(c, 50)
		t.Logf("%3d %5.1fs %s, nobody could write for %v", n, time.Since(at).Seconds(), step.name, s.load.pause().Round(time.Millisecond))
		if n%stepsPerWorkload == stepsPerWorkload-1 {
			s.end()
			s.begin(seed + uint64(n))
		}
		if t.Failed() {
			break
		}
	}
	s.load.progress(c, 50) // it may have begun just now
	s.end()
	for _, step := range steps {
		t.Logf("%4d times: %s", done[step.name], step.name)
	}
	t.Logf("%4d times: a defragmentation is cut off by a kill", s.cutOff)
	t.Log(total.String())
}

// stepsPerWorkload bounds how much is recorded before it is checked.
const stepsPerWorkload = 5

// soak is a cluster under load.
type soak struct {
	*cluster
	rng         *rand.Rand
	load        *workload
	defragments time.Duration // how long the last one took that was seen to its end
	cutOff      int           // defragmentations that a kill has ended
}

// begin begins a workload. Two of three have history compacted meanwhile.
func (s *soak) begin(seed uint64) {
	s.load = s.newWorkload(seed)
	if s.rng.IntN(3) > 0 {
		s.load.keep(seed)
	}
}

// end ends the workload and forgets its history, which would use the quota up with that of others.
func (s *soak) end() {
	last := s.load.end(s.cluster)
	s.again("a compaction of what was checked", func() error {
		_, err := s.client(s.leader()).Compact(s.within(), last)
		if errors.Is(err, rpctypes.ErrCompacted) { // by an earlier attempt
			return nil
		}
		return err
	})
}

func (s *soak) any() *member { return s.members[s.rng.IntN(len(s.members))] }

// without lets the load go on while a member is away, and waits until it does.
func (s *soak) without(x *member) {
	s.load.use(s.others(x))
	s.leader(s.others(x)...)
	s.load.progress(s.cluster, 20+s.rng.Int64N(2000))
}

func (s *soak) kill() {
	x := s.any()
	x.kill(s)
	s.without(x)
	x.start(s)
}

func (s *soak) stop() {
	x := s.any()
	x.stop(s)
	s.without(x)
	x.start(s)
}

func (s *soak) freeze() {
	x := s.any()
	x.signal(s, syscall.SIGSTOP)
	s.without(x)
	x.signal(s, syscall.SIGCONT)
}

func (s *soak) cut() {
	x := s.any()
	ways := s.rng.IntN(3)
	s.network.isolate(s.members, x, ways != 1, ways != 2)
	s.without(x)
	s.network.heal()
	s.eventually("the member is back", func() bool {
		st, err := s.status(x)
		return err == nil && st.Leader != 0
	})
}

func (s *soak) slow() {
	s.network.slow(time.Duration(1+s.rng.IntN(50)) * time.Millisecond)
	s.load.progress(s.cluster, 20)
	s.network.heal()
}

func (s *soak) move() {
	from := s.leader()
	to := s.others(from)[s.rng.IntN(2)]
	if _, err := s.client(from).MoveLeader(s.within(), to.id); err != nil {
		s.Logf("leadership did not move: %v", err)
	}
}

func (s *soak) replace() {
	old := s.any()
	at := s.others(old)[0]
	if s.rng.IntN(2) == 0 {
		old.kill(s)
		s.load.use(s.others(old))
		s.leader(s.others(old)...)
	}
	s.remove(at, old)
	s.load.use(s.members)
	old.waitEnd(s)
	s.leader()
	x := s.add(at, s.rng.IntN(2) == 0)
	if st, err := s.status(x); err == nil && st.IsLearner {
		s.promote(at, x)
	}
}

// cutAll leaves no majority anywhere for a while.
func (s *soak) cutAll() {
	for _, m := range s.members {
		s.network.isolate(s.members, m, true, true)
	}
	s.eventually("nobody leads", func() bool {
		return !slices.ContainsFunc(s.members, func(m *member) bool {
			st, err := s.status(m)
			return err != nil || st.Leader != 0
		})
	})
	s.network.heal()
}

func (s *soak) lose() {
	s.network.lose(0.1, time.Duration(s.rng.IntN(20))*time.Millisecond)
	s.load.progress(s.cluster, 50)
	s.network.heal()
}

// slowDisk is no reason for another leader.
func (s *soak) slowDisk() {
	x := s.any()
	s.trouble(x, slowSync)
	s.load.progress(s.cluster, 100)
	s.trouble(x, healthy)
}

func (s *soak) stuckDisk() {
	x := s.any()
	s.trouble(x, stuckLog)
	s.without(x)
	s.trouble(x, healthy)
	s.eventually("the member is back", func() bool {
		st, err := s.status(x)
		return err == nil && st.Leader != 0
	})
}

func (s *soak) full() {
	x := s.any()
	s.trouble(x, full)
	x.waitEnd(s)
	s.without(x)
	x.start(s)
}

// defragmentFirst is how long a defragmentation is taken to go on before one was seen to its end.
const defragmentFirst = 5 * time.Millisecond

// defragment defragments a member, which is killed meanwhile every other time.
func (s *soak) defragment() {
	x := s.any()
	cl := s.client(x)
	if s.rng.IntN(2) == 0 {
		var begin time.Time
		s.again("defragmenting "+x.name, func() error {
			begin = time.Now()
			_, err := cl.Defragment(s.within(), x.client)
			return err
		})
		s.defragments = time.Since(begin)
		return
	}
	ctx, cancel := context.WithCancel(s.within())
	answer := make(chan error, 1)
	go func() {
		_, err := cl.Defragment(ctx, x.client) // nobody answers once the member is killed
		answer <- err
	}()
	<-time.After(time.Duration(s.rng.Int64N(int64(s.defragments)))) // anywhere in it
	x.kill(s)
	cancel()
	if <-answer != nil {
		s.cutOff++
	}
	s.without(x)
	x.start(s)
}

// snapshot takes one of a member and restores it.
func (s *soak) snapshot() {
	x := s.any()
	at := s.get(x, "x").Header.Revision
	path := filepath.Join(s.TempDir(), "snapshot")
	s.again("a snapshot of "+x.name, func() error { return s.save(x, path) })
	s.load.checkSnapshot(s.cluster, path, at)
	if err := os.Remove(path); err != nil {
		s.Error(err)
	}
}
