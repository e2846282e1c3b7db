package ctl

import (
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ashlar-kv/ashlar/internal/logging"
)

// settings are the global flags.
type settings struct {
	endpoints []string
	format    string
	hex       bool
	debug     bool

	dialTimeout, commandTimeout     time.Duration
	keepaliveTime, keepaliveTimeout time.Duration
	maxRequestBytes, maxRecvBytes   int

	cert, key, caCert           string
	insecure, skipVerify        bool
	discoverySRV, discoveryName string
	discoveryInsecure           bool
	user, password, authToken   string
	cluster                     bool // of endpoint: all members of the cluster in place of the endpoints
}

// define declares the global flags with etcdctl's names and defaults.
func (g *settings) define(f *pflag.FlagSet) {
	f.StringSliceVar(&g.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	f.BoolVar(&g.debug, "debug", false, "write client-side debug logs to standard error")
	f.StringVarP(&g.format, "write-out", "w", "simple", "output format (fields, json, protobuf, simple, table)")
	f.BoolVar(&g.hex, "hex", false, "print byte strings as hex encoded strings")

	f.DurationVar(&g.dialTimeout, "dial-timeout", 2*time.Second, "time limit for getting a token")
	f.DurationVar(&g.commandTimeout, "command-timeout", 5*time.Second, "time limit of a request")
	f.DurationVar(&g.keepaliveTime, "keepalive-time", 2*time.Second, "time between pings of a connection")
	f.DurationVar(&g.keepaliveTimeout, "keepalive-timeout", 6*time.Second, "time to wait for the answer to a ping")
	f.IntVar(&g.maxRequestBytes, "max-request-bytes", 0, "largest request in bytes (0: 2 MiB)")
	f.IntVar(&g.maxRecvBytes, "max-recv-bytes", 0, "largest answer in bytes (0: no limit)")

	f.BoolVar(&g.insecure, "insecure-transport", true, "no TLS for endpoints that do not ask for it")
	f.BoolVar(&g.discoveryInsecure, "insecure-discovery", true, "accept insecure SRV records that describe the cluster")
	f.BoolVar(&g.skipVerify, "insecure-skip-tls-verify", false, "do not check the server's certificate (for tests only)")
	f.StringVar(&g.cert, "cert", "", "certificate of this client")
	f.StringVar(&g.key, "key", "", "key of this client's certificate")
	f.StringVar(&g.caCert, "cacert", "", "authorities that servers' certificates are checked with")
	f.StringVar(&g.authToken, "auth-jwt-token", "", "JWT in place of a user and a password")
	f.StringVar(&g.user, "user", "", "USER[:PASSWORD]; the password is asked for when it is missing")
	f.StringVar(&g.password, "password", "", "password; the whole of --user is then the user's name")
	f.StringVarP(&g.discoverySRV, "discovery-srv", "d", "", "domain whose SRV records name the endpoints")
	f.StringVar(&g.discoveryName, "discovery-srv-name", "", "service name to ask SRV records for")
}

// variablePrefix begins the names of the variables that stand for flags.
const variablePrefix = "ETCDCTL_"

// variableOf returns the variable that stands for a flag.
func variableOf(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// lookup returns a variable of the process; an empty one counts as not set.
func (s *session) lookup(name string) string {
	for _, v := range s.Environ {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// readEnvironment gives the flags that cmd inherits the values of their variables. A flag and its variable together
// end the program; a value that cannot be read is reported and left out, as in etcdctl.
func (s *session) readEnvironment(cmd *cobra.Command) error {
	if s.settings.debug {
		s.log = slog.New(logging.NewHandler(s.Stderr, slog.LevelDebug, false))
	}
	s.freeForm = !cmd.Flags().Changed("write-out") && s.lookup(variableOf("write-out")) == ""
	known := map[string]bool{variablePrefix + "API": true, variablePrefix + "WATCH_KEY": true, variablePrefix + "WATCH_RANGE_END": true}
	var err error
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		name := variableOf(f.Name)
		known[name] = true
		value := s.lookup(name)
		switch {
		case value == "" || err != nil:
		case f.Changed:
			s.log.Log(cmd.Context(), logging.LevelFatal, "a flag and its variable are both given; use one of them",
				"flag", "--"+f.Name, "variable", name)
			err = silent(statusError)
		default:
			if bad := f.Value.Set(value); bad != nil {
				_ = f.Value.Set(f.DefValue) // a value that cannot be read leaves zero behind
				s.log.Warn("the variable cannot be read and is ignored", "variable", name, "error", bad)
			}
		}
	})
	for _, v := range s.Environ {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, variablePrefix) && !known[name] {
			s.log.Warn("the variable stands for no flag of this command", "variable", name)
		}
	}
	return err
}
