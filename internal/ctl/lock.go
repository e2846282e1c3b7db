package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func (s *session) lockCommand() *cobra.Command {
	var ttl int
	c := &cobra.Command{Use: "lock <lockname> [exec-command arg1 arg2 ...]", Short: "Holds a named lock, for as long as a command runs",
		RunE: s.run(func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return badArguments("lock takes a lock name argument and an optional command to execute")
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			return s.lock(ctx, c, ttl, args[0], args[1:])
		})}
	c.Flags().IntVar(&ttl, "ttl", 10, "seconds until the lock of a client that died is free")
	return c
}

// lock holds a lock while a command runs, or until a signal comes. It gives it back in every case.
func (s *session) lock(ctx context.Context, c *clientv3.Client, ttl int, name string, command []string) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	lease, release, err := s.hold(ctx, c, ttl)
	if err != nil {
		return err
	}
	defer release()
	m := concurrency.NewMutex(lease, name)
	if err := m.Lock(ctx); err != nil {
		return err
	}
	if len(command) > 0 {
		err := s.runLocked(lease, m, command)
		return errors.Join(err, s.giveBack(c, m.Unlock))
	}
	answer, err := c.Get(ctx, m.Key())
	if err == nil && len(answer.Kvs) == 0 {
		err = errors.New("lock lost on init")
	}
	if err != nil {
		return err
	}
	if err := s.print(getReply((*pb.RangeResponse)(answer), false)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return s.giveBack(c, m.Unlock)
	case <-lease.Done():
		return errors.New("session expired")
	}
}

// sessionSeconds is the time to live of a lease that nobody has given one, as in etcd's client library.
const sessionSeconds = 60

// hold grants a lease that is renewed until release gives it back. Neither waits longer than a request may take: without an answer the lease ends
// by itself. Nor does who waits for a lock or to lead, and takes back what it has written for that, after the end of ctx.
func (s *session) hold(ctx context.Context, c *clientv3.Client, ttl int) (lease *concurrency.Session, release func(), err error) {
	if ttl <= 0 {
		ttl = sessionSeconds
	}
	asked, cancel := s.request(ctx)
	defer cancel()
	granted, err := c.Grant(asked, int64(ttl))
	if err != nil {
		return nil, nil, err
	}
	bounded, end := s.outlive(ctx)
	waiting := clientv3.NewCtxClient(bounded) // its context is what the library takes back with
	waiting.KV, waiting.Watcher, waiting.Lease = c.KV, c.Watcher, c.Lease
	if lease, err = concurrency.NewSession(waiting, concurrency.WithLease(granted.ID), concurrency.WithContext(c.Ctx())); err != nil {
		end()
		return nil, nil, err
	}
	return lease, func() {
		defer end()
		lease.Orphan()
		_ = s.giveBack(c, func(ctx context.Context) error {
			_, err := c.Revoke(ctx, lease.Lease())
			return err
		})
	}, nil
}

// outlive returns a context that ends by the time of a request later than ctx, or with end.
func (s *session) outlive(ctx context.Context) (_ context.Context, end func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() {
		last, done := s.request(longer)
		defer done()
		<-last.Done()
		cancel()
	})
	return longer, func() {
		forget()
		cancel()
	}
}

// giveBack runs one request after a command was told to end.
func (s *session) giveBack(c *clientv3.Client, request func(context.Context) error) error {
	ctx, cancel := s.request(c.Ctx())
	defer cancel()
	return request(ctx)
}

// runLocked runs a command that finds the lock in its environment; its exit status becomes ours. A signal reaches
// it as it reaches us, so it is not ended from here; and however many come, the lock is held for as long as it runs. Should its lease
// end meanwhile, the user is told.
func (s *session) runLocked(lease *concurrency.Session, m *concurrency.Mutex, command []string) error {
	unheeded := make(chan os.Signal, 1)
	signal.Notify(unheeded, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(unheeded)
	e := exec.Command(command[0], command[1:]...)
	e.Env = append(append([]string(nil), s.Environ...), "ETCD_LOCK_KEY="+m.Key(),
		fmt.Sprintf("ETCD_LOCK_REV=%d", m.Header().GetRevision()))
	e.Stdin, e.Stdout, e.Stderr = s.Stdin, s.Stdout, s.Stderr
	told := make(chan struct{})
	quiet := context.AfterFunc(lease.Ctx(), func() {
		defer close(told)
		fmt.Fprintf(s.Stderr, "Warning: the lease %016x of the lock has ended while the command runs: others may have the lock now\n", int64(lease.Lease()))
	})
	err := e.Run()
	if !quiet() {
		<-told
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return fail(exit.ExitCode(), err)
	}
	return err
}
