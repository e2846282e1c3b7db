package config

import (
	"strings"
	"testing"
	"time"
)

func TestTimeLimitsBetweenMembersHaveAMinimum(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args        []string
		read, write time.Duration
		notices     string
	}{
		"by default":  {nil, 5 * time.Second, 5 * time.Second, ""},
		"longer ones": {[]string{"--raft-read-timeout=6s", "--raft-write-timeout=1m"}, 6 * time.Second, time.Minute, ""},
		"shorter ones": {[]string{"--raft-read-timeout=1s", "--raft-write-timeout=-1s"}, 5 * time.Second, 5 * time.Second,
			"raft-read-timeout increased to minimum value: 5s|raft-write-timeout increased to minimum value: 5s"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse("ashlar", append(c.args, "--name=a"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.RaftReadTimeout != c.read || got.RaftWriteTimeout != c.write {
				t.Errorf("got %v and %v", got.RaftReadTimeout, got.RaftWriteTimeout)
			}
			var notices []string
			for _, n := range got.Notices {
				notices = append(notices, n.Message)
			}
			if text := strings.Join(notices, "|"); text != c.notices {
				t.Errorf("got the notices %q", text)
			}
		})
	}
}
