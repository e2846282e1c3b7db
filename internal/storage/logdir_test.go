package storage

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAnEarlierReleaseDoesNotOpenAGuardedLog: neither where it has left its own files, nor where there are none.
func TestAnEarlierReleaseDoesNotOpenAGuardedLog(t *testing.T) {
	t.Parallel()
	for name, used := range map[string]bool{"a new directory": false, "one that it has used": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			if used {
				l := openOldLog(t, fs, "log")
				l.write([]byte{1}, []byte{2})
				l.close(l.p.Close())
			} else if err := MakeDirs(fs, "log"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := GuardLog(fs, "log"); err != nil {
					t.Fatal(err)
				}
			}
			before, err := fs.List("log")
			if err != nil {
				t.Fatal(err)
			}
			o := logOptions(Options{MemTableBytes: logMemTableBytes})
			o.FS, o.ReadOnly, o.Logger = fs, false, logger{Options{}.withDefaults(0, 0).Logger, newFailure("log", func(error) {})}
			if _, err := pebble.Open("log", o); err == nil || !strings.Contains(err.Error(), "unknown format major version 999") {
				t.Errorf("it opens the log: %v", err)
			}
			after, err := fs.List("log")
			slices.Sort(before)
			slices.Sort(after)
			if after = slices.DeleteFunc(after, func(n string) bool { return n == "LOCK" }); err != nil ||
				!slices.Equal(slices.DeleteFunc(before, func(n string) bool { return n == "LOCK" }), after) {
				t.Errorf("it left %q of %q, %v", after, before, err)
			}
			if files := PebbleLogFiles(after); slices.Contains(files, logGuardName) || used != (len(files) > 0) {
				t.Errorf("files of an earlier release: %q", files)
			}
		})
	}
}

func TestOnlyFilesOfAnEarlierReleaseAreTakenForSuch(t *testing.T) {
	t.Parallel()
	old := []string{"000004.log", "000012.sst", "MANIFEST-000001", "OPTIONS-000003", "marker.format-version.000007.020",
		"marker.manifest.000001.MANIFEST-000001", "temporary.000005.dbtmp"}
	others := []string{"LOCK", logGuardName, "0000000000000001.seg", "0000000000000002.seg.tmp", "etcd-taken-over",
		"0000000000000000-0000000000000000.wal", "server.log", ".sst", "lost+found"}
	if got := PebbleLogFiles(slices.Concat(others, old)); !slices.Equal(got, old) {
		t.Errorf("got %q", got)
	}
}
