package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// gateDefaults are the feature gates of etcd 3.7.1.
var gateDefaults = map[string]bool{
	"AllAlpha": false, "AllBeta": false, "CompactHashCheck": false, "FastLeaseKeepAlive": true,
	"InitialCorruptCheck": false, "LeaseCheckpoint": false, "LeaseCheckpointPersist": false, "PriorityRequest": false,
	"SetMemberLocalAddr": false, "StopGRPCServiceOnDefrag": false, "TxnModeWriteWithSharedBuffer": true,
}

// builtGates are those that have an effect.
var builtGates = map[string]bool{
	GateLeaseCheckpoint: true, GateLeaseCheckpointPersist: true, GateFastLeaseKeepAlive: true,
	GateInitialCorruptCheck: true, GateCompactHashCheck: true,
}

// The feature gates that have an effect.
const (
	GateLeaseCheckpoint        = "LeaseCheckpoint"
	GateLeaseCheckpointPersist = "LeaseCheckpointPersist"
	GateFastLeaseKeepAlive     = "FastLeaseKeepAlive"
	GateInitialCorruptCheck    = "InitialCorruptCheck"
	GateCompactHashCheck       = "CompactHashCheck"
)

// Gate says whether a feature gate is open.
func (c *Config) Gate(name string) bool {
	if on, ok := c.gates[name]; ok {
		return on
	}
	return gateDefaults[name]
}

// Gate is a feature gate of etcd: its stage is ALPHA or BETA.
type Gate struct {
	Name, Stage string
	On          bool
}

// Gates returns all feature gates with their settings, by name.
func (c *Config) Gates() []Gate {
	var out []Gate
	for _, name := range slices.Sorted(maps.Keys(gateDefaults)) {
		stage := "ALPHA"
		if gateDefaults[name] || name == "AllBeta" { // those that are BETA are open by default
			stage = "BETA"
		}
		out = append(out, Gate{name, stage, c.Gate(name)})
	}
	return out
}

// unbuiltGate returns what the settings of gates without an effect wait for, "" when there are none.
func (c *Config) unbuiltGate() string {
	for _, name := range slices.Sorted(maps.Keys(c.gates)) {
		if !builtGates[name] {
			return "feature gate " + name
		}
	}
	return ""
}

// gateSet holds the gates that differ from their default.
type gateSet map[string]bool

func (g gateSet) String() string {
	names := slices.Sorted(maps.Keys(g))
	for i, n := range names {
		names[i] = n + "=" + strconv.FormatBool(g[n])
	}
	return strings.Join(names, ",")
}

func gates(p *gateSet) value {
	return setting[gateSet]{p: p, parse: parseGates, format: gateSet.String}
}

func parseGates(s string) (gateSet, error) {
	out := gateSet{}
	for _, pair := range strings.Split(s, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, val, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("missing bool value for %s", name)
		}
		on, err := strconv.ParseBool(val)
		if err != nil {
			return nil, fmt.Errorf("invalid value of %s: %s, err: %w", name, val, err)
		}
		def, known := gateDefaults[name]
		if !known {
			return nil, fmt.Errorf("unrecognized feature gate: %s", name)
		}
		if delete(out, name); on != def {
			out[name] = on
		}
	}
	return out, nil
}
