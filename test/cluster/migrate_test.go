package cluster

import (
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// etcd35 is not one of those that clusters are mixed with for long: it is only left.
var etcd35 = flag.String("etcd35", "", "the program of etcd 3.5, to be replaced")

// eachEtcdToLeave is eachEtcd, and etcd 3.5.
func eachEtcdToLeave(t *testing.T, run func(t *testing.T, etcd string)) {
	t.Helper()
	eachEtcd(t, run)
	t.Run("etcd 3.5", func(t *testing.T) {
		t.Parallel()
		if *etcd35 == "" {
			t.Skip("it needs the program of etcd 3.5: go test ./test/cluster -run Migrate -args -etcd35 PROGRAM")
		}
		run(t, *etcd35)
	})
}

// becomes makes another program serve a member that does not run, from now on.
func (c *cluster) becomes(m *member, binary string) {
	m.extra = slices.Clone(c.extra)
	m.runs(binary)
}

// TestMigrateInPlace replaces the members of a cluster of etcd one by one: each is ended, by a stop or a kill, and Ashlar is started
// on its data directory. Clients work all the time.
func TestMigrateInPlace(t *testing.T) {
	t.Parallel()
	eachEtcdToLeave(t, func(t *testing.T, etcd string) {
		c := newClusterOf(t, []string{etcd, etcd, etcd}, "--snapshot-count", "200")
		l := c.newWorkload(1)
		l.progress(c, 300)
		for i, m := range slices.Clone(c.members) {
			if i == 1 {
				m.kill(t)
			} else {
				m.stop(t)
			}
			l.progress(c, 50)
			c.becomes(m, program)
			m.start(t)
			if !strings.Contains(m.process.Log.String(), "took over a member of etcd") {
				t.Errorf("%s took nothing over", m.name)
			}
			l.progress(c, 100)
		}
		// etcd cannot come back on its directory.
		m := c.members[2]
		m.stop(t)
		c.becomes(m, etcd)
		m.launch(t)
		m.waitEnd(t)
		if log := m.process.Log.String(); strings.Contains(log, process.ReadyLine) || !strings.Contains(log, "not a directory") {
			t.Errorf("etcd starts on the directory, or ends for another reason:\n%s", m.process.Log.Tail(5))
		}
		c.becomes(m, program)
		m.start(t)
		l.end(c)
		if names, err := filepath.Glob(filepath.Join(m.dir, "data", "member*")); err != nil || len(names) != 2 {
			t.Errorf("%v, %v", names, err)
		}
	})
}

// TestMigrateByAdding replaces the members of a cluster one by one by new ones of the other kind, which join as learners: to
// Ashlar, and back to etcd. Clients work all the time.
func TestMigrateByAdding(t *testing.T) {
	t.Parallel()
	eachEtcd(t, func(t *testing.T, etcd string) {
		c := newClusterOf(t, []string{etcd, etcd, etcd}, "--snapshot-count", "100", "--snapshot-catchup-entries", "10")
		l := c.newWorkload(2)
		l.progress(c, 200)
		way := []string{program, etcd}
		if etcd == *etcds["3.6"] {
			way = way[:1] // with the last member of etcd 3.6 the cluster's version rises above it
		}
		for _, to := range way {
			for _, old := range slices.Clone(c.members) {
				at := c.others(old)[0]
				x := c.addAs(at, to, true)
				c.promote(at, x)
				c.remove(at, old)
				old.waitEnd(t)
				l.use(c.members)
				l.progress(c, 100)
			}
		}
		l.end(c)
	})
}
