package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestBootstrapIsCheckedInEtcdsWords(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		want string
	}{
		"the defaults":                       {nil, ""},
		"a name of its own":                  {[]string{"--name=x"}, ""},
		"a name and addresses":               {[]string{"--name=x", "--initial-advertise-peer-urls=http://127.0.0.1:2,http://127.0.0.1:1"}, ""},
		"two names for one address":          {[]string{"--name=x", "--initial-advertise-peer-urls=http://127.0.0.1:1", "--initial-cluster=x=http://127.0.0.1:1"}, ""},
		"a cluster without this member":      {[]string{"--name=x", "--initial-cluster=y=http://localhost:2380"}, `couldn't find local name "x" in the initial cluster configuration (--initial-cluster=y=http://localhost:2380)`},
		"a cluster that names one URL twice": {[]string{"--initial-cluster=a=http://localhost:2380,default=http://localhost:2380"}, "initial cluster a=http://localhost:2380,default=http://localhost:2380 has duplicate url"},
		"another address in the cluster": {[]string{"--initial-cluster=default=http://localhost:2399"},
			`--initial-cluster has default=http://localhost:2399 but missing from --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: "http://localhost:2380" != "http://localhost:2399")`},
		"another address advertised": {[]string{"--initial-advertise-peer-urls=http://127.0.0.1:42380"},
			`--initial-cluster has default=http://localhost:2380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:42380 (resolved urls: "http://127.0.0.1:42380" != "http://localhost:2380")`},
		"one more address in the cluster": {[]string{"--initial-cluster=default=http://localhost:2380,default=http://localhost:2399"},
			`--initial-cluster has default=http://localhost:2399 but missing from --initial-advertise-peer-urls=http://localhost:2380 (len(["http://localhost:2380"]) != len(["http://localhost:2380" "http://localhost:2399"]))`},
		"no address advertised where others know it already": {[]string{"--name=d", "--initial-cluster-state=existing",
			"--initial-cluster=a=http://127.0.0.1:1,d=http://127.0.0.1:2"}, ""},
		"a registry for a cluster that is there already": {[]string{"--initial-cluster-state=existing", "--discovery-token=t",
			"--discovery-endpoints=http://127.0.0.1:1"}, "discovery URL should not be set when joining existing initial cluster"},
		"records for a cluster that is there already": {[]string{"--initial-cluster-state=existing", "--discovery-srv=a.example"}, ""},
		"one address spelled in two ways": {[]string{"--initial-cluster=default=http://[0::1]:2380,default=HTTP://127.0.0.1:1,",
			"--initial-advertise-peer-urls=http://127.0.0.1:1,http://[::1]:2380"}, ""},
		"one more address advertised": {[]string{"--initial-cluster=default=http://localhost:2380", "--initial-advertise-peer-urls=http://localhost:2380,http://localhost:2390"},
			"--initial-advertise-peer-urls has http://localhost:2390 but missing from --initial-cluster=default=http://localhost:2380,default=http://localhost:2390"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := Parse("ashlar", c.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := cfg.CheckBootstrap(t.Context()); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestInitialMembersAreSortedAndKeepAllAddresses(t *testing.T) {
	t.Parallel()
	c := Default("ashlar")
	c.InitialCluster = "b=http://h:2,a=http://h:3, b=http://h:1"
	got, err := c.InitialMembers()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" || got[1].PeerURLs[0] != "http://h:1" || len(got[1].PeerURLs) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestADirectoryIsInitialisedOnceItHasAnIdentity(t *testing.T) {
	t.Parallel()
	c := Default("ashlar")
	c.DataDir = t.TempDir()
	if c.Initialised() {
		t.Error("an empty directory counts as initialised")
	}
	// A take-over that was cut off between the log and the identity.
	if err := errors.Join(os.Mkdir(filepath.Join(c.DataDir, "member.etcd-taken-over"), 0o700),
		os.WriteFile(filepath.Join(c.DataDir, "member"), []byte("the guard"), 0o400)); err != nil {
		t.Fatal(err)
	}
	if !c.Initialised() {
		t.Error("a directory that was taken over does not count as initialised")
	}
	c.DataDir = filepath.Join(t.TempDir(), "data[1") // which is no pattern
	wal := filepath.Join(c.DataDir, "member", "wal")
	if err := errors.Join(os.MkdirAll(wal, 0o700), os.WriteFile(filepath.Join(wal, "0000000000000000-0000000000000000.wal"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if !c.Initialised() {
		t.Error("a directory that etcd left does not count as initialised")
	}
	c.DataDir = filepath.Join("testdata", "initialised")
	if !c.Initialised() {
		t.Error("a directory with an identity does not count as initialised")
	}
}

func TestListenersOfOnePortShareItWhenAsked(t *testing.T) {
	t.Parallel()
	c := Default("ashlar")
	c.SocketReusePort, c.SocketReuseAddress = true, true
	lc := c.ListenConfig()
	first, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := lc.Listen(t.Context(), "tcp", first.Addr().String())
	if err != nil {
		t.Fatalf("a second listener of the port: %v", err)
	}
	defer second.Close()
}
