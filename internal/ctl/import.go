package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// importFlags are the flags of import.
type importFlags struct {
	ifAbsent bool
	leases   bool
	resume   bool
	batch    int
	rate     int
}

const (
	// importBatchBytes keeps a transaction below the limit of a request, which is 1.5 MiB unless it was changed.
	importBatchBytes = 512 << 10
	importBatchMax   = 128 // operations in a transaction, etcd's default limit
	importsMax       = 8   // transactions under way: while one is synced, others are applied and read
)

func (s *session) importCommand() *cobra.Command {
	var f importFlags
	c := &cobra.Command{Use: "import [options] <file>", Short: "Writes the keys of an export",
		Long: "Writes the keys of an export, several in a transaction, of which eight are under way. How far it is stands in FILE.progress; --resume goes\n" +
			"on there. A file without its last line is refused before anything is written; - reads standard input, where that is\n" +
			"found out only at its end."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		switch {
		case len(args) != 1:
			return badArguments("import needs one argument, a file or -")
		case f.batch < 1 || f.batch > importBatchMax:
			return badArguments("--batch is 1 to %d", importBatchMax)
		case f.rate < 0:
			return badArguments("--rate is negative")
		case f.resume && args[0] == "-":
			return badArguments("--resume needs a file")
		case s.inShell && args[0] == "-":
			return badArguments("import - would read the lines of the shell, and all of them: import a file")
		}
		if err := s.forms("simple"); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return s.interruptible(ctx, s.importFrom(ctx, &f, args[0]), args[0] != "-")
	})
	set := c.Flags()
	set.BoolVar(&f.ifAbsent, "if-absent", false, "leave keys alone that are there")
	set.BoolVar(&f.leases, "leases", false, "grant the leases of the export, with their ids, and attach the keys")
	set.BoolVar(&f.resume, "resume", false, "go on with an import of this file that was interrupted")
	set.IntVar(&f.batch, "batch", importBatchMax, "how many keys a transaction writes at most")
	set.IntVar(&f.rate, "rate", 0, "how many keys a second at most (0: no limit)")
	return c
}

func (s *session) importFrom(ctx context.Context, f *importFlags, name string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	cluster, err := s.clusterID(ctx, c)
	if err != nil {
		return err
	}
	m := &importer{s: s, client: c, flags: f, start: time.Now()}
	if name == "-" {
		m.in = newExportReader(s.input)
		m.bar = s.startProgress(progress.Bytes, 0)
		return m.run(ctx)
	}
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("opening the export: %w", err)
	}
	defer file.Close()
	if errors.Is(lockFile(file), errLocked) { // both would write one mark
		return fmt.Errorf("%s: another import of it is under way", name)
	}
	size, err := wholeExport(file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if m.mark, err = openImportMark(file, size, fmt.Sprintf("%x", cluster), f.resume); err != nil {
		return err
	}
	m.in = newExportReader(file)
	m.bar = s.startProgress(progress.Bytes, size)
	if err := m.run(ctx); err != nil {
		return err
	}
	return m.mark.remove()
}

// clusterID asks for the id of the cluster, 0 when the user may not even read one key.
func (s *session) clusterID(ctx context.Context, c *clientv3.Client) (uint64, error) {
	ctx, cancel := s.request(ctx)
	defer cancel()
	r, err := c.Get(ctx, "\x00", clientv3.WithCountOnly())
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("asking which cluster this is: %w", err)
	}
	return r.Header.GetClusterId(), nil
}

// wholeExport checks that the last line is the end of an export, and rewinds the file.
func wholeExport(file *os.File) (size int64, err error) {
	size, err = file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	const endMax = 256 // the last line is shorter
	at := max(0, size-endMax)
	tail := make([]byte, size-at)
	if _, err := file.ReadAt(tail, at); err != nil {
		return 0, fmt.Errorf("reading its end: %w", err)
	}
	if !endsExport(tail) {
		return 0, errors.New("this export is not whole: its last line is missing")
	}
	_, err = file.Seek(0, io.SeekStart)
	return size, err
}

// importer writes batches.
type importer struct {
	s      *session
	client *clientv3.Client
	flags  *importFlags
	in     *exportReader
	mark   *importMark // nil for standard input
	bar    *progress.Line
	start  time.Time

	batch *importBatch        // that is being filled
	sent  []*importBatch      // those under way, the oldest first
	keys  map[string]struct{} // of all of these
	ttl   map[clientv3.LeaseID]int64

	read, begun   int64 // keys of the file, and of batches that were begun
	written, left int64 // and of those that have ended: written, and there before
	whole         bool
}

func (m *importer) run(ctx context.Context) error {
	defer m.bar.End()
	m.batch, m.keys = &importBatch{}, map[string]struct{}{}
	err := m.copy(ctx)
	// Nothing is under way any more when this returns, and what has ended is in the mark, also after an error.
	if err = errors.Join(err, m.settle(ctx, 0)); err != nil {
		return err
	}
	m.bar.End()
	m.report()
	return nil
}

// copy begins the batches of the whole file.
func (m *importer) copy(ctx context.Context) error {
	if _, err := m.in.header(); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("line 1 is not the beginning of an export")
		}
		return err
	}
	for !m.whole {
		l, err := m.in.next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.Join(m.begin(ctx), errors.New("the export ends without its last line: it is not whole, and neither is what was imported"))
		}
		if err != nil {
			return err
		}
		if err := m.take(ctx, l); err != nil {
			if about := new(batchError); errors.As(err, &about) {
				return err
			}
			return fmt.Errorf("line %d: %w", m.in.line, err)
		}
	}
	end := m.in.line
	if _, err := m.in.next(); !errors.Is(err, io.EOF) { // two exports in one file, perhaps
		return errors.Join(m.begin(ctx), fmt.Errorf("line %d is the end of the export, and what follows it was not imported", end))
	}
	return m.begin(ctx)
}

func (m *importer) report() {
	fmt.Fprintf(m.s.Stderr, "%d keys imported", m.written)
	if m.flags.ifAbsent {
		fmt.Fprintf(m.s.Stderr, ", %d were there and left alone", m.left)
	}
	fmt.Fprintln(m.s.Stderr)
}

// take handles a line. Lines that an earlier run has written are only read.
func (m *importer) take(ctx context.Context, l *exportLine) error {
	done := m.mark != nil && m.in.offset <= m.mark.Offset
	switch {
	case l.End:
		m.whole = true
		if l.Keys != m.read {
			fmt.Fprintf(m.s.Stderr, "Warning: the export was of %d keys and the file has %d; it was edited\n", l.Keys, m.read)
		}
		return nil
	case l.isKey():
		m.read++
		if done {
			return nil
		}
		return m.key(ctx, l)
	case l.Lease != "":
		if !m.flags.leases {
			return nil
		}
		return m.lease(ctx, l) // also when an earlier run granted it: it may have ended since
	}
	return errors.New("this is neither a key nor a lease nor the end")
}

func (m *importer) key(ctx context.Context, l *exportLine) error {
	key, err := l.key()
	if err != nil {
		return err
	}
	value, err := l.value()
	if err != nil {
		return err
	}
	if len(key) == 0 {
		return errors.New("the key is empty")
	}
	var options []clientv3.OpOption
	var lease clientv3.LeaseID
	if m.flags.leases && l.Lease != "" {
		id, err := exportedLease(l.Lease)
		if err != nil {
			return err
		}
		options = append(options, clientv3.WithLease(id))
		lease = id
	}
	if err := m.makeRoom(ctx, string(key), len(key)+len(value)); err != nil {
		return err
	}
	op := clientv3.OpPut(string(key), string(value), options...)
	if m.flags.ifAbsent {
		absent := clientv3.Compare(clientv3.CreateRevision(string(key)), "=", 0)
		op = clientv3.OpTxn([]clientv3.Cmp{absent}, []clientv3.Op{op}, nil)
	}
	m.keys[string(key)] = struct{}{}
	m.batch.add(string(key), op, len(key)+len(value), lease)
	m.batch.safe, m.batch.sum, m.batch.line = m.in.offset, m.in.sum, m.in.line
	return nil
}
