package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestFullDiskEndsTheMemberAndNothingElse: when the disk is full the member acknowledges nothing more, says why and ends; a start
// without space makes nothing worse; with space everything acknowledged is there.
func TestFullDiskEndsTheMemberAndNothingElse(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t, 256<<20)
	m := newMember(t)
	m.dataDir, m.prefix = disk.dir+"/data", disk.enter
	s := m.start(t)
	written := fillDisk(t, s, m.connect(t), 50, false)

	noError(t, disk.fillUp(6<<20))
	for key, value := range fillDisk(t, s, m.connect(t), 100_000, true) {
		written[key] = value
	}
	s.WaitEnd(t)
	if code := s.State().ExitCode(); code == 0 {
		t.Errorf("the member ended with %v on a full disk, want another exit status", s.State())
	}
	if !strings.Contains(s.Log.String(), "no space left on device") {
		t.Errorf("the member does not say that the disk is full:\n%s", s.Log.Tail(10))
	}

	s = m.launch(t)
	s.WaitFor(process.ReadyLine) // served or refused, both are right
	s.Kill()

	noError(t, disk.makeRoom())
	s = m.start(t)
	checkDisk(t, m.connect(t), written)
	more := fillDisk(t, s, m.connect(t), 50, false)
	checkDisk(t, m.connect(t), more)
	t.Logf("%d writes were acknowledged before the end", len(written))
	s.stop(t)
}

// fillDisk writes up to count values of 32 KiB from a few clients, and returns what was acknowledged. Each client stops at its
// first error; unless mayFail there must be none. A client whose server has ended would ask until its time is over.
func fillDisk(t *testing.T, s *server, c *clientv3.Client, count int, mayFail bool) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wholeTest)
	defer cancel()
	go func() {
		select {
		case <-s.Ended():
			cancel()
		case <-ctx.Done():
		}
	}()
	var lock sync.Mutex
	var writers sync.WaitGroup
	acknowledged := make(map[string]string)
	const clients = 4
	for client := range clients {
		writers.Go(func() {
			for i := range count / clients {
				key := fmt.Sprintf("disk/%d/%d/%d", time.Now().UnixNano(), client, i)
				value := strings.Repeat(key+";", 32<<10/(len(key)+1))
				if _, err := c.Put(ctx, key, value); err != nil {
					if !mayFail {
						t.Errorf("a put with space left: %v", err)
					}
					return
				}
				lock.Lock()
				acknowledged[key] = value
				lock.Unlock()
			}
		})
	}
	writers.Wait()
	return acknowledged
}

// checkDisk fails unless all of written is there.
func checkDisk(t *testing.T, c *clientv3.Client, written map[string]string) {
	t.Helper()
	answer, err := c.Get(within(t, process.Patience), "disk/", clientv3.WithPrefix())
	noError(t, err)
	found := make(map[string]string, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	for key, value := range written {
		if found[key] != value {
			t.Errorf("%q was acknowledged with %d bytes, there are %d", key, len(value), len(found[key]))
		}
	}
}
