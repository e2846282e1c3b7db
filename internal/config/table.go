package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Status says what a setting does in this version.
type Status int

// The order is of no meaning; the names are those of docs/compatibility.md.
const (
	// Built settings have an effect.
	Built Status = iota
	// Accepted settings tune a part of etcd that Ashlar does not have, or not yet; they are taken with a warning.
	Accepted
)

// String returns the word that docs/compatibility.md uses.
func (s Status) String() string {
	return [...]string{"built", "accepted"}[s]
}

// Group is a heading of the help output.
type Group string

// The groups in the order of the help output.
const (
	Member     Group = "Member"
	Clustering Group = "Clustering"
	Security   Group = "Security"
	Auth       Group = "Auth"
	Profiling  Group = "Profiling and Monitoring"
	Logging    Group = "Logging"
	// Audit settings are ours: etcd has none of them.
	Audit        Group = "Audit log"
	TracingGroup Group = "Distributed tracing"
	Features     Group = "Features"
	Unsafe       Group = "Unsafe feature"
	// Hidden settings are not in the help output; they are told in its usage lines.
	Hidden Group = ""
)

// Groups are the groups that the help output shows, in its order.
var Groups = []Group{Member, Clustering, Security, Auth, Profiling, Logging, Audit, TracingGroup, Features, Unsafe}

// Flag is one row of the table: one setting.
type Flag struct {
	// Name is the flag without dashes. It is empty for a setting that only the file has.
	Name string
	// Group is where the help output shows it.
	Group Group
	// Key is its place in the configuration file, sections separated by dots; empty if it has none.
	Key string
	// Default is its default as text, as Set would take it.
	Default string
	// Usage is its line of help.
	Usage string
	// Status says what it does in this version.
	Status Status
	// Note says, for an accepted setting, why it has no meaning, and for a built one, what its limits are. Where it is not
	// empty it is logged or printed.
	Note string

	// Secret settings are not told to readers of the log.
	Secret bool

	bind func(*Config) value
	// idle says what of the value given has no effect and why, where some values have one; "" for nothing. nil otherwise.
	idle func(*Config) string
}

// Env returns the variable of the flag, or "" for a setting without a flag.
func (f Flag) Env() string {
	if f.Name == "" {
		return ""
	}
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

func (f Flag) label() string {
	if f.Name == "" {
		return f.Key
	}
	return "--" + f.Name
}

// reset gives a new value of f its default. An empty one is what it holds already: given as text it could mean a list that holds nothing.
func (f Flag) reset(v value) {
	if f.Default == "" {
		return
	}
	if err := v.Set(f.Default); err != nil {
		panic("config: default of " + f.label() + ": " + err.Error())
	}
}

// told is a value of f as the log may have it.
func (f Flag) told(text string) string {
	if f.Secret {
		return "********"
	}
	return text
}

// isDefault tells whether v holds the default of f, however it was spelled.
func (f Flag) isDefault(v value) bool {
	d := f.bind(new(Config))
	if err := d.Set(f.Default); err != nil {
		return false
	}
	return d.String() == v.String()
}

// Flags returns a copy of the table, in the order of the help output.
func Flags() []Flag { return slices.Clone(table) }

var table = slices.Concat(memberFlags, clusteringFlags, discoveryFlags, securityFlags, profilingFlags,
	loggingFlags, auditFlags, tracingFlags, featureFlags, hiddenFlags, fileOnly)

// ignored are flags of old etcd releases that etcd still takes and does nothing with.
var ignored = []string{"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
	"max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval",
	"snapshot", "v", "vv"}

// ignoredFlag is the value of such a flag.
type ignoredFlag struct{}

func (ignoredFlag) Set(string) error { return nil }
func (ignoredFlag) String() string   { return "" }
func (ignoredFlag) IsBoolFlag() bool { return true }

func invalidValue(string) error { return errors.New("invalid value") }

func invalidNamed(s string) error { return fmt.Errorf("invalid value %q", s) }
