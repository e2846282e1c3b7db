package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) checkCommand() *cobra.Command {
	return s.group("check <subcommand>", "commands for checking properties of the etcd cluster",
		s.checkPerfCommand(), s.checkDatascaleCommand())
}

// checkFlags are the flags of both checks.
type checkFlags struct {
	load, prefix            string
	autoCompact, autoDefrag bool
}

// command returns a check's command. run is called when nothing lies below the prefix; what it left there is
// removed.
func (f *checkFlags) command(s *session, name, short string, sizes []string,
	run func(ctx context.Context, c *clientv3.Client, load string) error) *cobra.Command {
	c := &cobra.Command{Use: name + " [options]", Short: short,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			load, ok := loadNames[f.load]
			if !ok {
				return badFeature("unknown load option %v", f.load)
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			if err := f.nothingThere(ctx, s, c); err != nil {
				return err
			}
			ctx, stop := untilSignal(ctx)
			defer stop()
			err = run(ctx, c, load)
			if ctx.Err() != nil {
				err = silent(statusSignal)
			}
			if left := f.cleanUp(ctx, s, c); left != nil {
				fmt.Fprintln(s.Stderr, s.errorWord(), left)
				if err == nil {
					err = silent(statusError)
				}
			}
			return err
		})}
	set := c.Flags()
	set.StringVar(&f.load, "load", "s", "how much: "+strings.Join(sizes, ", "))
	set.StringVar(&f.prefix, "prefix", "/etcdctl-check-"+name+"/", "where the check writes its keys")
	set.BoolVar(&f.autoCompact, "auto-compact", false, "compact afterwards")
	set.BoolVar(&f.autoDefrag, "auto-defrag", false, "defragment afterwards")
	return c
}

// loadNames holds every name of a load.
var loadNames = map[string]string{"s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l", "xl": "xl", "xLarge": "xl"}

// nothingThere fails when keys lie below the prefix: they would be removed with those of the check.
func (f *checkFlags) nothingThere(ctx context.Context, s *session, c *clientv3.Client) error {
	ctx, cancel := s.request(ctx)
	defer cancel()
	answer, err := c.Get(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil {
		return err
	}
	if len(answer.Kvs) > 0 {
		return badInput("prefix %q has keys. Delete with `%s del --prefix %s` first", f.prefix, s.Program, f.prefix)
	}
	return nil
}

// cleanUp removes the check's keys, and compacts and defragments when that is asked for. After a signal, which has ended ctx, it removes them, too, and
// does no more.
func (f *checkFlags) cleanUp(ctx context.Context, s *session, c *clientv3.Client) error {
	interrupted := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	revision, err := f.remove(ctx, s, c)
	if err != nil {
		return fmt.Errorf("removing the check's keys: %w", err)
	}
	if interrupted {
		return nil
	}
	if f.autoCompact {
		if _, err := c.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
			return fmt.Errorf("compacting after the check: %w", err)
		}
		fmt.Fprintf(s.Stdout, "Compacted with revision %d\n", revision)
	}
	if !f.autoDefrag {
		return nil
	}
	for _, e := range c.Endpoints() {
		if _, err := c.Defragment(ctx, e); err != nil {
			return fmt.Errorf("defragmenting %s after the check: %w", e, err)
		}
		fmt.Fprintf(s.Stdout, "Defragmented %q\n", e)
	}
	return nil
}

// removePage is how many keys are removed by one request: one for all of them takes long, and a server may refuse it.
const removePage = 4096

// remove removes the check's keys and returns the revision after that.
func (f *checkFlags) remove(ctx context.Context, s *session, c *clientv3.Client) (revision int64, err error) {
	for {
		page := s.scanPrefix(c, f.prefix, 0)
		page.limit, page.keysOnly = removePage, true
		from := page.from
		if err := page.read(ctx); err != nil {
			return 0, err
		}
		end := page.from // behind the last key that was read
		if page.last {
			end = page.end
		}
		asked, cancel := s.request(ctx)
		answer, err := c.Delete(asked, from, clientv3.WithRange(end))
		cancel()
		if err != nil {
			return 0, err
		}
		if page.last {
			return answer.Header.GetRevision(), nil
		}
	}
}
