package ctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// exportFlags are the flags of export.
type exportFlags struct {
	output   string
	revision int64
	leases   bool
	resume   bool
}

func (s *session) exportCommand() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{Use: "export [options] [prefix]", Short: "Writes the keys below a prefix as JSON lines",
		Long: "Writes keys and values as of one revision, an object a line, to a file or to standard output. A file is written beside\n" +
			"its name, as NAME.part, and renamed when it is whole; --resume goes on with one that was interrupted."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		switch {
		case len(args) > 1:
			return badArguments("export needs at most one argument, a prefix")
		case f.resume && f.output == "-":
			return badArguments("--resume needs --output")
		}
		if err := s.forms("simple"); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return s.interruptible(ctx, s.export(ctx, &f, strings.Join(args, "")), f.output != "-")
	})
	set := c.Flags()
	set.StringVarP(&f.output, "output", "o", "-", "file to write (-: standard output)")
	set.Int64Var(&f.revision, "rev", 0, "write as of this revision (0: the newest)")
	set.BoolVar(&f.leases, "leases", false, "write leases, too: which keys they hold and for how long they were granted")
	set.BoolVar(&f.resume, "resume", false, "go on with an export to this file that was interrupted")
	return c
}

// interruptible returns how a command ends that failed with err, or nil, and perhaps because a signal ended ctx.
func (s *session) interruptible(ctx context.Context, err error, resumable bool) error {
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if resumable {
		fmt.Fprintln(s.Stderr, "interrupted; --resume goes on where this ended")
	}
	return silent(statusSignal)
}

// export writes to the stream or to the file.
func (s *session) export(ctx context.Context, f *exportFlags, prefix string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	header := exportHeader{Format: exportFormat, Prefix: []byte(prefix), Revision: f.revision, Leases: f.leases}
	e := &exporter{s: s, client: c, leases: f.leases, header: header}
	if f.output == "-" {
		e.out = bufio.NewWriterSize(s.Stdout, 64<<10)
		return e.run(ctx)
	}
	part := f.output + ".part"
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
	if f.resume {
		flags = os.O_RDWR
	}
	file, err := os.OpenFile(part, flags, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s is there from an export that did not finish: go on with --resume, or remove it", part)
	case err != nil:
		return fmt.Errorf("opening %s: %w", part, err)
	}
	defer file.Close()
	if f.resume {
		if err := e.resume(file); err != nil {
			return fmt.Errorf("going on with %s: %w", part, err)
		}
	}
	e.out = bufio.NewWriterSize(file, 1<<20)
	if err := e.run(ctx); err != nil {
		return errors.Join(err, e.out.Flush())
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", part, err)
	}
	if err := os.Rename(part, f.output); err != nil {
		return fmt.Errorf("renaming %s: %w", part, err)
	}
	return syncDirectory(filepath.Dir(f.output))
}

// exporter writes keys as they come.
type exporter struct {
	s      *session
	client *clientv3.Client
	leases bool
	header exportHeader
	out    *bufio.Writer

	begun   bool   // the file has the header
	last    []byte // the last key that the file has; nil: none
	written int64
	known   map[int64]bool // leases that have been written
	expired int64
}

// knownLeasesMax bounds the memory for leases; past it some are written twice, which harms nothing.
const knownLeasesMax = 1 << 16

func (e *exporter) run(ctx context.Context) error {
	n := e.s.scanPrefix(e.client, string(e.header.Prefix), e.header.Revision)
	bar := e.s.startProgress(keyCount, 0)
	defer bar.End()
	if e.last != nil {
		n.from = string(e.last) + "\x00"
		n.last = n.end != "\x00" && n.from >= n.end
	}
	if !n.last {
		if err := e.begin(ctx, n); err != nil {
			return err
		}
	}
	for {
		kv, err := n.next(ctx)
		if err != nil {
			return err
		}
		if kv == nil {
			break
		}
		bar.Expect(n.count)
		if err := e.key(ctx, kv); err != nil {
			return err
		}
		bar.Add(1)
	}
	if err := e.line(exportEnd{End: true, Keys: e.written}); err != nil {
		return err
	}
	if err := e.out.Flush(); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	bar.End()
	fmt.Fprintf(e.s.Stderr, "%d keys exported as of revision %d\n", e.written, n.revision)
	if e.expired > 0 {
		fmt.Fprintf(e.s.Stderr, "%d keys hang on leases that have ended since; they were written without\n", e.expired)
	}
	return nil
}

// begin reads the first page, which tells the revision and the cluster, and writes the header. Where the file has one, the cluster must be
// the same: the revision is there in others, too.
func (e *exporter) begin(ctx context.Context, n *scan) error {
	if err := n.read(ctx); err != nil {
		return err
	}
	cluster := fmt.Sprintf("%x", n.cluster)
	if e.begun {
		if e.header.Cluster != "" && e.header.Cluster != cluster {
			return fmt.Errorf("the export that was interrupted cannot go on: it is of the cluster %s, and this is %s", e.header.Cluster, cluster)
		}
		return nil
	}
	e.header.Revision, e.header.Cluster = n.revision, cluster
	return e.line(e.header)
}

func (e *exporter) key(ctx context.Context, kv *mvccpb.KeyValue) error {
	l := exportKey{Created: kv.GetCreateRevision(), Modified: kv.GetModRevision(), Version: kv.GetVersion()}
	l.setKey(kv.GetKey())
	l.setValue(kv.GetValue())
	if e.leases && kv.GetLease() != 0 {
		lives, err := e.lease(ctx, kv.GetLease())
		if err != nil {
			return err
		}
		if lives {
			l.Lease = fmt.Sprintf("%016x", kv.GetLease())
		} else {
			e.expired++
		}
	}
	e.written++
	return e.line(l)
}

// lease writes a lease before the first key that it holds.
func (e *exporter) lease(ctx context.Context, id int64) (lives bool, err error) {
	if lives, ok := e.known[id]; ok {
		return lives, nil
	}
	ctx, cancel := e.s.request(ctx)
	defer cancel()
	r, err := e.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return false, fmt.Errorf("asking about lease %016x: %w", id, err)
	}
	if e.known == nil || len(e.known) >= knownLeasesMax {
		e.known = map[int64]bool{}
	}
	e.known[id] = r.TTL > 0
	if r.TTL <= 0 {
		return false, nil
	}
	return true, e.line(exportLease{Lease: fmt.Sprintf("%016x", id), Granted: r.GrantedTTL})
}

func (e *exporter) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a line: %w", err)
	}
	if _, err := e.out.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// resume reads what an earlier run wrote: the header must be for the same keys, and the last key tells where to
// go on. What follows it, half a line or the lease of the next one, is cut off.
func (e *exporter) resume(file *os.File) error {
	r := newExportReader(file)
	h, err := r.header()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // killed before the first write
		return cutFile(file, 0)
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(h.Prefix, e.header.Prefix) {
		return fmt.Errorf("it holds the prefix %s", shown(h.Prefix))
	}
	if e.header.Revision != 0 && e.header.Revision != h.Revision {
		return fmt.Errorf("it is of revision %d", h.Revision)
	}
	const with, without = "it was begun with --leases", "it was begun without --leases"
	switch {
	case h.Leases && !e.leases:
		return errors.New(with)
	case e.leases && !h.Leases:
		return errors.New(without)
	}
	whole := r.offset
	for {
		l, err := r.next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
		if l.End { // whole, but not renamed: the end is written again
			break
		}
		if l.Lease != "" && !e.leases { // by an earlier release, whose headers do not say so
			return errors.New(with)
		}
		if l.isKey() {
			if e.last, err = l.key(); err != nil {
				return err
			}
			e.written++
			whole = r.offset
		}
	}
	e.header, e.begun = h, true
	return cutFile(file, whole)
}

// cutFile cuts off what follows the first bytes of a file, and goes on behind these.
func cutFile(file *os.File, size int64) error {
	if err := file.Truncate(size); err != nil {
		return err
	}
	_, err := file.Seek(size, io.SeekStart)
	return err
}
