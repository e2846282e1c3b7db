package config

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sample is a value other than the default that one setting may be given.
type sample struct {
	text string
	yaml string   // in the file; "" is what the text makes of itself
	with []string // flags that it needs beside it
	file string   // the whole file, if it needs others of its section
}

const discoveryFile = "discovery-config: {token: t, client: {endpoints: [http://127.0.0.1:1]}}\n"

// samples holds one for each row of the table. A row without one fails TestEverySettingComesFromEverySource.
var samples = map[string]sample{
	"name": {text: "m1"}, "data-dir": {text: "d"}, "wal-dir": {text: "w"}, "snapshot-count": {text: "77"},
	"heartbeat-interval": {text: "50"}, "election-timeout": {text: "2000"}, "initial-election-tick-advance": {text: "false"},
	"listen-peer-urls":        {text: "http://127.0.0.1:1,http://127.0.0.1:2"},
	"listen-client-urls":      {text: "http://127.0.0.1:1", with: []string{"advertise-client-urls=http://127.0.0.1:1"}},
	"listen-client-http-urls": {text: "http://127.0.0.1:1"}, "listen-metrics-urls": {text: "unix:///m.sock"},
	"max-snapshots": {text: "7"}, "max-wals": {text: "7"}, "memory-mlock": {text: "true"}, "quota-backend-bytes": {text: "-1"},
	"backend-bbolt-freelist-type": {text: "array"}, "backend-batch-interval": {text: "1s"}, "backend-batch-limit": {text: "9"},
	"max-txn-ops": {text: "9"}, "max-request-bytes": {text: "1000"}, "max-concurrent-streams": {text: "9"},
	"grpc-keepalive-min-time": {text: "3s"}, "grpc-keepalive-interval": {text: "3s"}, "grpc-keepalive-timeout": {text: "3s"},
	"socket-reuse-port": {text: "true"}, "socket-reuse-address": {text: "true"}, "enable-grpc-gateway": {text: "false"},
	"raft-read-timeout": {text: "9s"}, "raft-write-timeout": {text: "9s"}, "feature-gates": {text: "CompactHashCheck=true"},

	"initial-advertise-peer-urls": {text: "http://a.example:1"}, "initial-cluster": {text: "default=http://a.example:1"},
	"initial-cluster-state": {text: "existing"}, "initial-cluster-token": {text: "t"}, "advertise-client-urls": {text: "http://a.example:1"},
	"strict-reconfig-check": {text: "false"}, "pre-vote": {text: "false"}, "auto-compaction-retention": {text: "5h", yaml: `"5h"`},
	"auto-compaction-mode": {text: "revision"}, "v2-deprecation": {text: "gone"},
	"discovery-token":     {text: "t", with: []string{"discovery-endpoints=http://127.0.0.1:1"}, file: discoveryFile},
	"discovery-endpoints": {text: "http://127.0.0.1:1", with: []string{"discovery-token=t"}, file: discoveryFile},

	"discovery-dial-timeout": {text: "9s"}, "discovery-request-timeout": {text: "9s"}, "discovery-keepalive-time": {text: "9s"},
	"discovery-keepalive-timeout": {text: "9s"}, "discovery-insecure-transport": {text: "false"},
	"discovery-insecure-skip-tls-verify": {text: "true"}, "discovery-cert": {text: "c"}, "discovery-key": {text: "k"},
	"discovery-cacert": {text: "a"}, "discovery-user": {text: "u"}, "discovery-password": {text: "p"},
	"discovery-srv": {text: "example.test"}, "discovery-srv-name": {text: "n"},
	// Its other value is refused: TestBadConfigurationIsRefusedInEtcdsWords.
	"discovery-fallback": {text: "exit"},

	"cert-file": {text: "c"}, "key-file": {text: "k"}, "client-cert-auth": {text: "true"}, "client-cert-file": {text: "c"},
	"client-key-file": {text: "k"}, "client-crl-file": {text: "r"}, "client-cert-allowed-hostname": {text: "h,i", yaml: "[h, i]"},
	"trusted-ca-file": {text: "a"}, "auto-tls": {text: "true"}, "peer-cert-file": {text: "c"}, "peer-key-file": {text: "k"},
	"peer-client-cert-auth": {text: "true"}, "peer-client-cert-file": {text: "c"}, "peer-client-key-file": {text: "k"},
	"peer-trusted-ca-file": {text: "a"}, "peer-cert-allowed-cn": {text: "a,b", yaml: "[a, b]"},
	"peer-cert-allowed-hostname": {text: "h", yaml: "[h]"}, "peer-auto-tls": {text: "true"}, "self-signed-cert-validity": {text: "9"},
	"peer-crl-file": {text: "r"}, "cipher-suites": {text: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", yaml: "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"},
	"cors": {text: "http://a.example:1"}, "host-whitelist": {text: "a.example"}, "tls-min-version": {text: "TLS1.3"},
	"tls-max-version": {text: "TLS1.3"}, "peer-skip-client-san-verification": {text: "true"},
	"auth-token": {text: "jwt,x=y"}, "bcrypt-cost": {text: "4"}, "auth-token-ttl": {text: "9"},

	"enable-pprof": {text: "true"}, "metrics": {text: "extensive"}, "logger": {text: ""}, "log-outputs": {text: "stdout,a.log", yaml: "[stdout, a.log]"},
	"log-level": {text: "debug"}, "log-format": {text: "console"},
	"enable-log-rotation":      {text: "true", with: []string{"log-outputs=a.log"}},
	"log-rotation-config-json": {text: `{"maxsize": 1}`}, "warning-unary-request-duration": {text: "1s"},
	"audit-log-file": {text: "a"}, "audit-log-reads": {text: "false"}, "audit-log-max-size": {text: "9"}, "audit-log-max-backups": {text: "9"},
	"enable-distributed-tracing": {text: "true"}, "distributed-tracing-address": {text: "a.example:1"},
	"distributed-tracing-service-name": {text: "s"}, "distributed-tracing-instance-id": {text: "i"}, "distributed-tracing-sampling-rate": {text: "9"},

	"corrupt-check-time": {text: "9s"}, "compact-hash-check-time": {text: "9s"}, "compaction-batch-limit": {text: "9"},
	"watch-progress-notify-interval": {text: "9s"}, "warning-apply-duration": {text: "9s"},
	"bootstrap-defrag-threshold-megabytes": {text: "9"}, "max-learners": {text: "9"}, "compaction-sleep-interval": {text: "9s"},
	"downgrade-check-time": {text: "9s"}, "snapshot-catchup-entries": {text: "9"}, "force-new-cluster": {text: "true"}, "unsafe-no-fsync": {text: "true"},
	"config-file": {}, "version": {}, // TestHelpAndVersionAreAskedFor, TestFlagsVariablesAndFileGiveTheSameConfiguration

	// Of the file alone.
	"client-transport-security.allowed-cn":                   {text: "a", yaml: "[a]"},
	"client-transport-security.skip-client-san-verification": {text: "true"},
	"discovery-config.client.max-request-bytes":              {text: "9"}, "discovery-config.client.max-recv-bytes": {text: "9"},
	"discovery-config.client.secure.server-name": {text: "s"}, "discovery-config.client.auth.token": {text: "t"},
}

// inFile is the value as the file has it: numbers and times are numbers, the rest is quoted.
func (s sample) inFile() string {
	if s.yaml != "" {
		return s.yaml
	}
	if d, err := time.ParseDuration(s.text); err == nil {
		return strconv.FormatInt(int64(d), 10)
	}
	if _, err := strconv.ParseBool(s.text); err == nil {
		return s.text
	}
	if _, err := strconv.ParseInt(s.text, 10, 64); err == nil {
		return s.text
	}
	return strconv.Quote(s.text)
}

// yamlFile gives the setting at key the sample's value, and those that it needs theirs.
func (s sample) yamlFile(key string) string {
	if s.file != "" {
		return s.file
	}
	parts := strings.Split(key, ".")
	out := strings.Join(parts, ": {") + ": " + s.inFile() + strings.Repeat("}", len(parts)-1) + "\n"
	for _, w := range s.with {
		name, text, _ := strings.Cut(w, "=")
		out += name + ": " + sample{text: text}.inFile() + "\n"
	}
	return out
}

// TestEverySettingComesFromEverySource gives each row of the table a value by flag, by variable and by file, and wants the
// same of all three.
func TestEverySettingComesFromEverySource(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{}
	for _, f := range Flags() {
		label := strings.TrimPrefix(f.label(), "--")
		rows[label] = true
		s, ok := samples[label]
		if !ok {
			t.Errorf("%s has no sample: give it one, and a proof that it does what it says (internal/server/flags_linux_test.go)", f.label())
			continue
		}
		if label == "config-file" || label == "version" {
			continue
		}
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			if f.isDefault(setTo(t, f, s.text)) != (label == "discovery-fallback") {
				t.Errorf("%q is its default", s.text)
			}
			var flags []string
			for _, w := range s.with {
				flags = append(flags, "--"+w)
			}
			if f.Name != "" {
				wantSetting(t, f, s, append(flags, "--"+f.Name+"="+s.text), nil)
				if s.text != "" { // an empty variable counts for nothing
					wantSetting(t, f, s, flags, []string{f.Env() + "=" + s.text})
				}
				both := append(flags, "--"+f.Name+"="+s.text)
				_, err := Parse("ashlar", both, []string{f.Env() + "=" + s.text})
				if err == nil || !strings.Contains(err.Error(), "conflicting environment variable "+strconv.Quote(f.Env())) {
					t.Errorf("flag and variable together: %v", err)
				}
			}
			if f.Key != "" {
				file := filepath.Join(t.TempDir(), "c.yaml")
				write(t, file, s.yamlFile(f.Key))
				wantSetting(t, f, s, []string{"--config-file=" + file}, nil)
			}
		})
	}
	for label := range samples {
		if !rows[label] {
			t.Errorf("there is a sample for %s, which is not in the table", label)
		}
	}
}

// wantSetting wants the configuration of these sources to hold the sample, and to tell of a setting without effect.
func wantSetting(t *testing.T, f Flag, s sample, args, environ []string) {
	t.Helper()
	c, err := Parse("ashlar", args, environ)
	if err != nil {
		var u *UsageError
		t.Fatalf("%q %q: %v (usage: %v)", args, environ, err, errors.As(err, &u))
	}
	if f.Status == Accepted {
		for _, n := range c.Notices {
			if n.Message == "setting has no effect" && strings.Contains(n.Attrs[1].Value.String(), f.Note) {
				return
			}
		}
		t.Errorf("%q %q: nothing says that it has no effect: %v", args, environ, c.Notices)
		return
	}
	if got, want := f.bind(&c).String(), setTo(t, f, s.text).String(); got != want {
		t.Errorf("%q %q: got %q, want %q", args, environ, got, want)
	}
}
