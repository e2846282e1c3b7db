package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreThoseOfEtcd(t *testing.T) {
	t.Parallel()
	for program, dir := range map[string]string{"ashlar": "default.ashlar", "etcd": "default.etcd"} {
		c, err := Parse(program, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.DataDir != dir {
			t.Errorf("data directory of %s: got %q, want %q", program, c.DataDir, dir)
		}
		if c.InitialCluster != "default=http://localhost:2380" || c.ListenClientURLs.String() != "http://localhost:2379" {
			t.Errorf("got cluster %q, client URLs %q", c.InitialCluster, c.ListenClientURLs)
		}
		if c.HeartbeatInterval != 100*time.Millisecond || c.ElectionTicks() != 10 || c.Quota() != 2<<30 {
			t.Errorf("got heartbeat %v, %d ticks, quota %d", c.HeartbeatInterval, c.ElectionTicks(), c.Quota())
		}
	}
}

func TestFlagsVariablesAndFileGiveTheSameConfiguration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.yaml")
	write(t, file, `
name: a
snapshot-count: 77
heartbeat-interval: 20
grpc-keepalive-min-time: 3000000000
pre-vote: false
listen-client-urls: http://127.0.0.1:2,http://127.0.0.1:1
advertise-client-urls: http://example.com:1
socket-options:
  reuse-port: true
log-outputs: [stderr, stdout]
max-concurrent-streams: 9
nothing-we-know: {deep: [1, 2]}
cors: null
`)
	sources := map[string]struct{ args, environ []string }{
		"flags with one and with two dashes": {args: []string{"-name", "a", "--snapshot-count=77", "--heartbeat-interval", "20",
			"-grpc-keepalive-min-time=3s", "--pre-vote=false", "--listen-client-urls=http://127.0.0.1:2, http://127.0.0.1:1",
			"--advertise-client-urls=http://example.com:1", "--socket-reuse-port", "--log-outputs=stderr,stdout",
			"--max-concurrent-streams=9", "--vv", "--snapshot"}},
		"variables": {environ: []string{"ETCD_NAME=a", "ETCD_SNAPSHOT_COUNT=77", "ETCD_HEARTBEAT_INTERVAL=20",
			"ETCD_GRPC_KEEPALIVE_MIN_TIME=3s", "ETCD_PRE_VOTE=false",
			"ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:1",
			"ETCD_ADVERTISE_CLIENT_URLS=http://example.com:1", "ETCD_SOCKET_REUSE_PORT=true",
			"ETCD_LOG_OUTPUTS=stderr,stdout", "ETCD_MAX_CONCURRENT_STREAMS=9", "ETCD_WAL_DIR=", "PATH=x"}},
		"a file, which makes flags and variables count for nothing": {
			args: []string{"--config-file", file, "--name=zz", "--cert-file=x"}, environ: []string{"ETCD_NAME=yy", "ETCD_WAL_DIR=w"}},
		"a file named by a variable": {environ: []string{"ETCD_CONFIG_FILE=" + file}, args: []string{"--name=zz"}},
	}
	for name, s := range sources {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse("ashlar", s.args, s.environ)
			if err != nil {
				t.Fatal(err)
			}
			if c.Name != "a" || c.SnapshotCount != 77 || c.HeartbeatInterval != 20*time.Millisecond ||
				c.GRPCKeepAliveMinTime != 3*time.Second || c.PreVote || !c.SocketReusePort || c.MaxConcurrentStreams != 9 ||
				c.ListenClientURLs.String() != "http://127.0.0.1:1,http://127.0.0.1:2" || c.DataDir != "a.ashlar" ||
				c.AdvertiseClientURLs.String() != "http://example.com:1" || c.WALDir != "" ||
				strings.Join(c.LogOutputs, " ") != "stderr stdout" || c.InitialCluster != "a=http://localhost:2380" {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestBadConfigurationIsRefusedInEtcdsWords(t *testing.T) {
	t.Parallel()
	const usage, other = 2, 1
	cases := map[string]struct {
		args   []string
		env    []string
		status int
		want   string
	}{
		"an unknown flag":              {args: []string{"--bogus"}, status: usage, want: "flag provided but not defined: -bogus"},
		"a flag that etcd has dropped": {args: []string{"--discovery=http://x"}, status: usage, want: "flag provided but not defined: -discovery"},
		"a flag without its value":     {args: []string{"--data-dir"}, status: usage, want: "flag needs an argument: -data-dir"},
		"a URL without a scheme": {args: []string{"--listen-client-urls=bogus"}, status: usage,
			want: `invalid value "bogus" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: bogus`},
		"origins that are none":  {args: []string{"--cors="}, status: usage, want: `invalid value "" for flag -cors: URL scheme must be http, https, unix, or unixs: `},
		"a list without outputs": {args: []string{"--log-outputs="}, status: other, want: "--log-outputs holds an empty output"},
		"a URL without a port": {args: []string{"--listen-client-urls=http://127.0.0.1"}, status: usage,
			want: `invalid value "http://127.0.0.1" for flag -listen-client-urls: URL address does not have the form "host:port": http://127.0.0.1`},
		"a URL with a path": {args: []string{"--listen-client-urls=http://localhost:1/p"}, status: usage,
			want: `invalid value "http://localhost:1/p" for flag -listen-client-urls: URL must not contain a path: http://localhost:1/p`},
		"a number that is none": {args: []string{"--heartbeat-interval=abc"}, status: usage,
			want: `invalid value "abc" for flag -heartbeat-interval: parse error`},
		"a negative number": {args: []string{"--snapshot-count=-1"}, status: usage,
			want: `invalid value "-1" for flag -snapshot-count: parse error`},
		"a number of more than 32 bits": {args: []string{"--max-concurrent-streams=4294967296"}, status: usage,
			want: `invalid value "4294967296" for flag -max-concurrent-streams: strconv.ParseUint: parsing "4294967296": value out of range`},
		"a duration without a unit": {args: []string{"--grpc-keepalive-min-time=5"}, status: usage,
			want: `invalid value "5" for flag -grpc-keepalive-min-time: parse error`},
		"a boolean that is none": {args: []string{"--pre-vote=maybe"}, status: usage,
			want: `invalid boolean value "maybe" for -pre-vote: parse error`},
		"an unknown cluster state": {args: []string{"--initial-cluster-state=bogus"}, status: usage,
			want: `invalid value "bogus" for flag -initial-cluster-state: invalid value`},
		"a removed phase of the v2 store": {args: []string{"--v2-deprecation=not-yet"}, status: usage,
			want: `invalid value "not-yet" for flag -v2-deprecation: invalid value "not-yet"`},
		"an unknown feature gate": {args: []string{"--feature-gates=Bogus=true"}, status: usage,
			want: `invalid value "Bogus=true" for flag -feature-gates: unrecognized feature gate: Bogus`},
		"a feature gate without a value": {args: []string{"--feature-gates=Bogus"}, status: usage,
			want: `invalid value "Bogus" for flag -feature-gates: missing bool value for Bogus`},
		"an unknown log level": {args: []string{"--log-level=bogus"}, status: usage,
			want: `invalid value "bogus" for flag -log-level: unrecognized level: "bogus"`},
		"a feature gate that is neither": {args: []string{"--feature-gates=PriorityRequest=x"}, status: usage,
			want: `invalid value "PriorityRequest=x" for flag -feature-gates: invalid value of PriorityRequest=x, err: strconv.ParseBool: parsing "x": invalid syntax`},
		"another way out of discovery": {args: []string{"--discovery-fallback=proxy"}, status: other,
			want: `v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`},
		"a heartbeat longer than any time": {args: []string{"--heartbeat-interval=99999999999"}, status: other,
			want: "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[99999999999ms]"},
		"a word that is no flag": {args: []string{"extra-argument"}, status: other, want: `"extra-argument" is not a valid flag`},
		"a short election timeout": {args: []string{"--election-timeout=10"}, status: other,
			want: "--election-timeout[10ms] should be at least as 5 times as --heartbeat-interval[100ms]"},
		"a long election timeout": {args: []string{"--election-timeout=60000"}, status: other,
			want: "--election-timeout[60000ms] is too long, and should be set less than 50000ms"},
		"no heartbeat": {args: []string{"--heartbeat-interval=0"}, status: other, want: "--heartbeat-interval must be >0 (set to 0ms)"},
		"no time between checks of compactions": {args: []string{"--compact-hash-check-time=0"}, status: other,
			want: "--compact-hash-check-time must be >0 (set to 0s)"},
		"checkpoints that last where none are made": {args: []string{"--feature-gates=LeaseCheckpointPersist=true"}, status: other,
			want: "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"},
		"all gates of a stage but one that another needs": {args: []string{"--feature-gates=AllAlpha=true,LeaseCheckpoint=false"}, status: other,
			want: "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"},
		"a negative time between checks": {args: []string{"--corrupt-check-time=-1s"}, status: other,
			want: "--corrupt-check-time must be >=0 (set to -1s)"},
		"no election":                {args: []string{"--election-timeout=0"}, status: other, want: "--election-timeout must be >0 (set to 0ms)"},
		"an unknown log format":      {args: []string{"--log-format=bogus"}, status: other, want: "unknown log format: bogus, supported values json, console"},
		"etcd's old logger":          {args: []string{"--logger=capnslog"}, status: other, want: "--logger=capnslog is removed in v3.5"},
		"an unknown logger":          {args: []string{"--logger=bogus"}, status: other, want: `unknown logger option "bogus"`},
		"an unknown compaction":      {args: []string{"--auto-compaction-mode=bogus"}, status: other, want: `unknown auto-compaction-mode "bogus"`},
		"no compaction mode":         {args: []string{"--auto-compaction-mode="}, status: other, want: `undefined auto-compaction-mode`},
		"a retention that is none":   {args: []string{"--auto-compaction-retention=bogus"}, status: other, want: `error parsing CompactionRetention: time: invalid duration "bogus"`},
		"a retention without a unit": {args: []string{"--auto-compaction-mode=revision", "--auto-compaction-retention=-5"}, status: other, want: `error parsing CompactionRetention: time: missing unit in duration "-5"`},
		"a negative retention":       {args: []string{"--auto-compaction-retention=-1h"}, status: other, want: `error parsing CompactionRetention: it is negative`},
		"default beside an output":   {args: []string{"--log-outputs=default,stderr"}, status: other, want: `multi logoutput for "default" is not supported yet`},
		"rotation without a file": {args: []string{"--enable-log-rotation"}, status: other,
			want: "--log-outputs requires a single file path when --log-rotate-config-json is defined"},
		"rotation that is not JSON": {args: []string{"--enable-log-rotation", "--log-outputs=f", "--log-rotation-config-json=xx"}, status: other,
			want: "improperly formatted log rotation config: invalid character 'x' looking for beginning of value"},
		"client URLs without those to advertise": {args: []string{"--listen-client-urls=http://127.0.0.1:1"}, status: other,
			want: "--advertise-client-urls is required when --listen-client-urls is set explicitly"},
		"the same by variable": {env: []string{"ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:1"}, status: other,
			want: "--advertise-client-urls is required when --listen-client-urls is set explicitly"},
		"a name to listen on": {args: []string{"--listen-peer-urls=http://bad.name:2380"}, status: other,
			want: "expected IP in URL for binding (http://bad.name:2380)"},
		"peer URLs without a host": {args: []string{"--initial-advertise-peer-urls=http://:2380"}, status: other,
			want: `--initial-advertise-peer-urls "http://:2380" must be "host:port" (unexpected empty host (http://:2380))`},
		"client URLs without a host": {args: []string{"--advertise-client-urls=http://:2379"}, status: other,
			want: `--advertise-client-urls "http://:2379" must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host (http://:2379))`},
		"a cluster that is no list": {args: []string{"--initial-cluster=bogus"}, status: other,
			want: "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "},
		"a variable that cannot be read": {env: []string{"ETCD_HEARTBEAT_INTERVAL=x"}, status: other,
			want: `invalid value "x" for ETCD_HEARTBEAT_INTERVAL: parse error`},
		"a flag and its variable": {args: []string{"--name=y"}, env: []string{"ETCD_NAME="}, status: other,
			want: `conflicting environment variable "ETCD_NAME" is shadowed by corresponding command-line flag (either unset environment variable or disable flag)`},
		"an address that needs TLS": {args: []string{"--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"},
			status: other, want: "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme"},
		"no such file": {args: []string{"--config-file=none.yaml"}, status: other, want: "open none.yaml: no such file or directory"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("etcd", c.args, c.env)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			var u *UsageError
			if got := errors.As(err, &u); got != (c.status == usage) {
				t.Errorf("usage error: got %v, want status %d", got, c.status)
			}
		})
	}
}

func TestNoNoticeHoldsAPassword(t *testing.T) {
	t.Parallel()
	c, err := Parse("etcd", nil, []string{"ETCD_DISCOVERY_PASSWORD=hush", "ETCD_DISCOVERY_USER=u", "ETCD_DISCOVERY_TOKEN=t", "ETCD_DISCOVERY_ENDPOINTS=e"})
	if err != nil || c.Discovery.Password != "hush" {
		t.Fatalf("password %q, %v", c.Discovery.Password, err)
	}
	if said := fmt.Sprint(c.Notices); strings.Contains(said, "hush") || !strings.Contains(said, "ETCD_DISCOVERY_PASSWORD") {
		t.Errorf("it is said: %s", said)
	}
}

func TestWhoAsksForSoManyEntriesGetsThemAlone(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"": true, "5000": true, "4999": false, "10000": false, "0": false} {
		c := Default("etcd")
		if value != "" {
			if err := c.Set("snapshot-catchup-entries", value); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.KeepsLogForAbsent(); got != want {
			t.Errorf("with %q entries the log is kept for members that are away: %v", value, got)
		}
	}
}

func TestALogWithoutALevelOrAFormatHasTheDefault(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "etcd.yml")
	write(t, file, "log-level: ''\nlog-format: ''\n")
	for _, args := range [][]string{{"--log-level=", "--log-format="}, {"--config-file=" + file}} {
		c, err := Parse("etcd", args, nil)
		if err != nil || c.LogLevel != "info" || c.LogFormat != "json" {
			t.Errorf("%v: level %q, format %q, %v", args, c.LogLevel, c.LogFormat, err)
		}
	}
}

func TestNothingInTheFileLeavesTheDefault(t *testing.T) {
	t.Parallel()
	def := Default("etcd")
	for nothing, keys := range map[string][]string{
		"''": {"cors", "host-whitelist", "listen-client-urls", "listen-metrics-urls", "initial-cluster-state", "log-outputs"},
		"[]": {"log-outputs", "cipher-suites", "host-whitelist"},
	} {
		file := filepath.Join(t.TempDir(), "etcd.yml")
		write(t, file, strings.Join(keys, ": "+nothing+"\n")+": "+nothing+"\n")
		c, err := Parse("etcd", []string{"--config-file=" + file}, nil)
		if err != nil {
			t.Fatalf("%s: %v", nothing, err)
		}
		for _, name := range keys {
			if got, want := c.Text(name), def.Text(name); got != want {
				t.Errorf("%s with %s is %q, want %q", name, nothing, got, want)
			}
		}
	}
}

func TestBadFilesAreRefusedByKey(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ text, want string }{
		"not YAML":            {"name: [a\n", "yaml: line 1: did not find expected ',' or ']'"},
		"a list at the top":   {"- a\n", "want sections of the form key: value"},
		"a number for a text": {"name: 3\n", "name: want a text, got 3"},
		"a text for a number": {"heartbeat-interval: x\n", "heartbeat-interval: want a whole number of milliseconds"},
		"a fraction":          {"snapshot-count: 1.5\n", "snapshot-count: want a whole number that is not negative, got 1.5"},
		"a negative number":   {"max-request-bytes: -1\n", "max-request-bytes: want a whole number"},
		"a duration as text":  {"grpc-keepalive-min-time: 5s\n", "grpc-keepalive-min-time: want a whole number of nanoseconds"},
		"a bad URL":           {"listen-peer-urls: bogus\n", "listen-peer-urls: URL scheme must be http"},
		"a section as a text": {"socket-options: x\n", "socket-options: want sections"},
		"half of discovery":   {"discovery-config: {token: x}\n", "both --discovery-token and --discovery-endpoints must be set"},
		"an unknown state":    {"initial-cluster-state: bogus\n", `unexpected clusterState "bogus"`},
		"an unknown gate":     {"feature-gates: Foo=true\n", "feature-gates: unrecognized feature gate: Foo"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "c.yaml")
			write(t, file, c.text)
			_, err := Parse("ashlar", []string{"--config-file=" + file}, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v\nwant one line with %s", err, c.want)
			}
		})
	}
}

func TestFeatureGatesHaveTheirDefaultsUnlessSet(t *testing.T) {
	t.Parallel()
	c, err := Parse("ashlar", []string{"--feature-gates=LeaseCheckpoint=true,FastLeaseKeepAlive=false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for gate, want := range map[string]bool{
		GateLeaseCheckpoint: true, GateLeaseCheckpointPersist: false, GateFastLeaseKeepAlive: false,
	} {
		if got := c.Gate(gate); got != want {
			t.Errorf("%s is %v", gate, got)
		}
	}
	if d := Default("ashlar"); !d.Gate(GateFastLeaseKeepAlive) || d.Gate(GateLeaseCheckpoint) {
		t.Error("the defaults are not etcd's")
	}
}

func TestSettingsWithoutMeaningAreNoted(t *testing.T) {
	t.Parallel()
	c, err := Parse("ashlar", []string{"--name=a", "--max-wals=9", "--max-snapshots=5", "--backend-batch-interval=1s"},
		[]string{"ETCD_TYPO=1", "ETCD_UNSAFE_NO_FSYNC=true"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range c.Notices {
		got = append(got, n.Message)
	}
	want := "setting has no effect|setting has no effect|recognized and used environment variable|setting has limits|" +
		"unrecognized environment variable"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}

func TestHelpAndVersionAreAskedFor(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]error{"-h": ErrHelp, "--help": ErrHelp, "-version": ErrVersion} {
		if _, err := Parse("etcd", []string{arg}, nil); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", arg, err, want)
		}
	}
	var text strings.Builder
	Help(&text, "ashlar")
	for _, f := range Flags() {
		if f.Group != Hidden && !strings.Contains(text.String(), "  --"+f.Name+" '") {
			t.Errorf("help does not show --%s", f.Name)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
