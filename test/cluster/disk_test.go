package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/server"
	"github.com/ashlar-kv/ashlar/test/process"
)

// diskAddress is the variable that makes a member of this test program: a process that does what `ashlar` does, on a disk that is
// told over HTTP, at the address that the variable holds, what to do wrong.
const diskAddress = "CLUSTER_TEST_DISK"

// trouble is what a disk does wrong.
type trouble string

const (
	healthy      trouble = "healthy"
	slowSync     trouble = "slow sync"      // each sync takes slowSyncTime
	stuckLog     trouble = "stuck log"      // no sync of the log ends
	stuckFlush   trouble = "stuck flush"    // no sync of a table ends
	full         trouble = "full"           // nothing is created or written
	failManifest trouble = "manifest fails" // no manifest is written
	stuckOpen    trouble = "stuck open"     // no manifest of an earlier run can be opened
)

// diskBegins is the variable that holds what the disk does wrong from the beginning.
const diskBegins = "CLUSTER_TEST_DISK_BEGINS"

const slowSyncTime = 30 * time.Millisecond

// disk injects a trouble into a filesystem. It may be used from any goroutine.
type disk struct {
	mu      sync.Mutex
	now     trouble
	changed chan struct{} // closed and replaced when now changes
}

func newDisk() *disk { return &disk{now: healthy, changed: make(chan struct{})} }

func (d *disk) state() (trouble, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now, d.changed
}

// ServeHTTP takes the next trouble.
func (d *disk) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = trouble(r.URL.Query().Get("trouble"))
	close(d.changed)
	d.changed = make(chan struct{})
}

// String implements errorfs.Injector.
func (d *disk) String() string { return "disk" }

// MaybeError implements errorfs.Injector.
func (d *disk) MaybeError(op errorfs.Op) error {
	syncs := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	name := filepath.Base(op.Path)
	for {
		now, changed := d.state()
		switch {
		case now == slowSync && syncs:
			<-time.After(slowSyncTime)
			return nil
		case now == stuckLog && syncs && strings.Contains(name, ".seg"), now == stuckFlush && syncs && strings.HasSuffix(name, ".sst"),
			now == stuckOpen && op.Kind == errorfs.OpOpen && strings.HasPrefix(name, "MANIFEST"):
			<-changed
			continue
		case now == full && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpReuseForWrite):
			return syscall.ENOSPC
		case now == failManifest && strings.HasPrefix(name, "MANIFEST") && (op.Kind == errorfs.OpFileWrite || syncs):
			return syscall.EIO
		}
		return nil
	}
}

// serveOnDisk is a member in this process, and returns its exit status.
func serveOnDisk(address string, args []string) int {
	if err := runOnDisk(address, args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runOnDisk(address string, args []string) error {
	cfg, err := config.Parse("ashlar", args, nil)
	if err != nil {
		return err
	}
	log, files, err := logging.Open(logging.Options{Outputs: cfg.LogOutputs, Level: cfg.LogLevel, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	defer files.Close()
	d := newDisk()
	d.now = trouble(os.Getenv(diskBegins))
	control := &http.Server{Addr: address, Handler: d}
	go control.ListenAndServe() // a test that cannot reach it fails
	defer control.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return server.RunOn(ctx, errorfs.Wrap(vfs.Default, d), cfg, log)
}

// newClusterOnDisks starts n members whose disks can be troubled.
func newClusterOnDisks(tb testing.TB, n int, extra ...string) *cluster {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	programs := make([]string, n)
	for i := range programs {
		programs[i] = self
	}
	c := newClusterOf(tb, programs, extra...)
	c.binary = self
	return c
}

// environment is what a process of the member is told besides its arguments: where its disk listens, if this program serves it.
func (m *member) environment(tb testing.TB) []string {
	if self, err := os.Executable(); err != nil || m.binary != self {
		return nil
	}
	m.disk = process.FreeAddress(tb)
	return []string{diskAddress + "=" + m.disk, diskBegins + "=" + string(m.begins)}
}

// trouble tells a member's disk what to do wrong from now on.
func (c *cluster) trouble(m *member, what trouble) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.within(), http.MethodPost, "http://"+m.disk+"/", nil)
	if err != nil {
		c.Fatal(err)
	}
	req.URL.RawQuery = "trouble=" + strings.ReplaceAll(string(what), " ", "+")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatalf("telling the disk of %s: %v", m.name, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		c.Fatal(err)
	}
}
