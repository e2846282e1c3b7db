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
	lease, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
	if err != nil {
		return err
	}
	defer lease.Close()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := concurrency.NewMutex(lease, name)
	if err := m.Lock(ctx); err != nil {
		return err
	}
	if len(command) > 0 {
		err := s.runLocked(m, command)
		return errors.Join(err, m.Unlock(c.Ctx()))
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
		return m.Unlock(c.Ctx())
	case <-lease.Done():
		return errors.New("session expired")
	}
}

// runLocked runs a command that finds the lock in its environment; its exit status becomes ours. A signal reaches
// it as it reaches us, so it is not ended from here.
func (s *session) runLocked(m *concurrency.Mutex, command []string) error {
	e := exec.Command(command[0], command[1:]...)
	e.Env = append(append([]string(nil), s.Environ...), "ETCD_LOCK_KEY="+m.Key(),
		fmt.Sprintf("ETCD_LOCK_REV=%d", m.Header().GetRevision()))
	e.Stdin, e.Stdout, e.Stderr = s.Stdin, s.Stdout, s.Stderr
	err := e.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return fail(exit.ExitCode(), err)
	}
	return err
}
