package embed

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// byName are the flags that have no field of their own: Set takes them.
var byName = []string{"v2-deprecation", "raft-read-timeout", "raft-write-timeout",
	"audit-log-file", "audit-log-reads", "audit-log-max-size", "audit-log-max-backups",
	"discovery-token", "discovery-endpoints", "discovery-dial-timeout", "discovery-request-timeout", "discovery-keepalive-time",
	"discovery-keepalive-timeout", "discovery-insecure-transport", "discovery-insecure-skip-tls-verify", "discovery-cert", "discovery-key",
	"discovery-cacert", "discovery-user", "discovery-password", "discovery-fallback"}

// inStructs are the flags that a field of ClientTLSInfo, PeerTLSInfo or SocketOpts stands for, and none those of a command line alone.
var (
	inStructs = []string{"cert-file", "key-file", "client-cert-auth", "client-cert-file", "client-key-file", "client-crl-file",
		"client-cert-allowed-hostname", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-client-cert-auth", "peer-client-cert-file",
		"peer-client-key-file", "peer-trusted-ca-file", "peer-cert-allowed-cn", "peer-cert-allowed-hostname", "peer-crl-file",
		"peer-skip-client-san-verification", "socket-reuse-port", "socket-reuse-address"}
	none = []string{"config-file", "version"}
)

func TestEveryFlagCanBeSet(t *testing.T) {
	t.Parallel()
	var fields []string
	NewConfig().eachField(func(flag string, _ any) { fields = append(fields, flag) })
	known := slices.Concat(fields, byName, inStructs, none)
	var flags []string
	for _, f := range config.Flags() {
		if f.Name == "" {
			continue
		}
		if flags = append(flags, f.Name); !slices.Contains(known, f.Name) {
			t.Errorf("--%s has no field in Config, and is not known to be without one", f.Name)
		}
		if slices.Contains(none, f.Name) {
			continue
		}
		if err := NewConfig().Set(f.Name, f.Default); err != nil {
			t.Errorf("--%s to its default: %v", f.Name, err)
		}
	}
	for _, f := range known {
		if !slices.Contains(flags, f) {
			t.Errorf("--%s is not a flag", f)
		}
	}
}

// TestADefaultSaysNothing: a configuration that nobody touched is the one of the command line.
func TestADefaultSaysNothing(t *testing.T) {
	t.Parallel()
	want, err := config.Parse(program, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewConfig().validated()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range config.Flags() {
		if got.Text(f.Name) != want.Text(f.Name) {
			t.Errorf("--%s is %q, want %q", f.Name, got.Text(f.Name), want.Text(f.Name))
		}
	}
	if len(got.Notices) != len(want.Notices) {
		t.Errorf("it says %v, want %v", got.Notices, want.Notices)
	}
}

func TestFieldsAreWhatTheMemberGets(t *testing.T) {
	t.Parallel()
	cfg := NewConfig()
	cfg.Name, cfg.Dir, cfg.TickMs, cfg.ElectionMs = "m1", "d", 20, 300
	cfg.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:2"}, {Scheme: "https", Host: "127.0.0.1:1"}}
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:3"}}
	cfg.CORS, cfg.LogOutputs = map[string]struct{}{"http://b:1": {}, "http://a:1": {}}, []string{"stdout", "stderr"}
	cfg.HostWhitelist = nil
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = CompactorModeRevision, "100"
	cfg.WarningApplyDuration, cfg.PreVote, cfg.QuotaBackendBytes, cfg.MaxWalFiles = time.Second, false, -1, 9
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = "c", "k"
	cfg.ClientTLSInfo.AllowedCNs = []string{"a"}
	cfg.ClientTLSInfo.AllowedCN = "b" //lint:ignore SA1019 the old field counts too
	cfg.SocketOpts.ReusePort = true
	if err := cfg.Set("feature-gates", "CompactHashCheck=true"); err != nil {
		t.Fatal(err)
	}
	c, err := cfg.validated()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"name": "m1", "data-dir": "d", "heartbeat-interval": "20", "election-timeout": "300",
		"listen-client-urls": "https://127.0.0.1:1,https://127.0.0.1:2", "initial-cluster": "m1=http://127.0.0.1:3", "cors": "http://a:1,http://b:1",
		"host-whitelist": "*", "log-outputs": "stdout,stderr", "auto-compaction-mode": "revision", "warning-apply-duration": "1s",
		"pre-vote": "false", "quota-backend-bytes": "-1", "cert-file": "c", "key-file": "k", "socket-reuse-port": "true",
		"feature-gates": "CompactHashCheck=true"} {
		if got := c.Text(name); got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
	if !slices.Equal(c.ClientTLS.AllowedCN, []string{"a", "b"}) || c.CompactRevisions != 100 || cfg.ElectionTicks() != 15 || !cfg.IsNewCluster() {
		t.Errorf("names %v, revisions %d, %d ticks", c.ClientTLS.AllowedCN, c.CompactRevisions, cfg.ElectionTicks())
	}
	said := 0
	for _, n := range c.Notices {
		if n.Message == "setting has no effect" {
			said++
		}
	}
	if said != 1 {
		t.Errorf("%d settings have no effect, want that of MaxWalFiles: %v", said, c.Notices)
	}
}

func TestNoListOfOutputsIsTheDefault(t *testing.T) {
	t.Parallel()
	cfg := NewConfig()
	cfg.LogOutputs = nil
	if c, err := cfg.validated(); err != nil || c.Text("log-outputs") != "default" {
		t.Errorf("the outputs are %q, %v", c.Text("log-outputs"), err)
	}
}

func TestAFileIsReadAsByTheCommandLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yml")
	text := "name: m1\ndata-dir: d\nmax-wals: 9\nheartbeat-interval: 200\nelection-timeout: 2000\nlog-outputs: [stderr]\nlogger: zap\n" +
		"listen-client-http-urls: http://127.0.0.1:9\ninitial-cluster: m1=http://localhost:2380\n" +
		"client-transport-security:\n  allowed-cn: x\n  auto-tls: true\nfeature-gates: CompactHashCheck=true\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := ConfigFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "m1" || cfg.TickMs != 200 || !cfg.ClientAutoTLS || !slices.Equal(cfg.ClientTLSInfo.AllowedCNs, []string{"x"}) ||
		len(cfg.ListenClientHttpUrls) != 1 || !slices.Equal(cfg.LogOutputs, []string{"stderr"}) {
		t.Errorf("got %+v", cfg)
	}
	cfg.TickMs = 100
	before, err := cfg.validated()
	if err != nil {
		t.Fatal(err)
	}
	if got := before.Text("feature-gates"); got != "CompactHashCheck=true" {
		t.Errorf("the gates of the file are %q", got)
	}
	once := map[string]int{}
	for _, n := range before.Notices {
		once[n.Message]++
	}
	if once["setting has no effect"] != 1 {
		t.Errorf("it says %v", once)
	}
	for name, path := range map[string]string{"no name": "", "no file": path + ".gone"} {
		if _, err := ConfigFromFile(path); err == nil || !strings.HasPrefix(err.Error(), "embed: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a file opens, a program can shut.
func TestWhatAFileSaysCanBeTakenBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yml")
	text := "listen-metrics-urls: http://127.0.0.1:9\nlisten-client-http-urls: http://127.0.0.1:8\ncors: '*'\nhost-whitelist: '*'\n" +
		"client-transport-security:\n  allowed-cn: x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := ConfigFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ListenMetricsUrls, cfg.ListenClientHttpUrls, cfg.ClientTLSInfo.AllowedCNs = nil, nil, nil
	for _, flag := range []string{"cors", "host-whitelist"} {
		if err := cfg.Set(flag, ""); err != nil {
			t.Fatal(err)
		}
	}
	c, err := cfg.validated()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"listen-metrics-urls", "listen-client-http-urls", "cors", "host-whitelist"} {
		if got := c.Text(flag); got != "" {
			t.Errorf("--%s is still %q", flag, got)
		}
	}
	if len(c.ClientTLS.AllowedCN) > 0 {
		t.Errorf("names are still %q", c.ClientTLS.AllowedCN)
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"--election-timeout":                   func(c *Config) { c.ElectionMs = 1 },
		"--initial-cluster-state":              func(c *Config) { c.ClusterState = "old" },
		"unrecognized level":                   func(c *Config) { c.LogLevel = "loud" },
		"PeerTLSInfo.InsecureSkipVerify":       func(c *Config) { c.PeerTLSInfo.InsecureSkipVerify = true },
		"ClientTLSInfo.MinVersion":             func(c *Config) { c.ClientTLSInfo.MinVersion = 1 },
		"--listen-client-urls":                 func(c *Config) { c.ListenClientUrls = []url.URL{{Scheme: "ftp", Host: "a:1"}} },
		"expected IP in URL for binding":       func(c *Config) { c.ListenClientUrls = []url.URL{{Scheme: "http", Host: "a.example:1"}} },
		"unknown auto-compaction-mode":         func(c *Config) { c.AutoCompactionMode = "never" },
		"multiple discovery or bootstrap":      func(c *Config) { c.DNSCluster, c.InitialCluster = "a.example", "a=http://b:1" },
		"must be \"host:port\"":                func(c *Config) { c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: ":1"}} },
		"unexpected TLS cipher suite \"none\"": func(c *Config) { c.CipherSuites = []string{"none"} },
	} {
		cfg := NewConfig()
		change(cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "embed: ") {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if err := NewConfig().Set("no-such-flag", ""); err == nil {
		t.Error("a flag that there is not was set")
	}
}
