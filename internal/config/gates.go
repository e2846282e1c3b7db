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

// idleGates say of the gates without an effect why that is.
var idleGates = map[string]string{
	"PriorityRequest":              "what ends leases goes before the requests of clients in any case",
	"StopGRPCServiceOnDefrag":      "a defragmentation blocks nothing",
	"TxnModeWriteWithSharedBuffer": noBbolt,
}

// The feature gates that have an effect.
const (
	GateLeaseCheckpoint        = "LeaseCheckpoint"
	GateLeaseCheckpointPersist = "LeaseCheckpointPersist"
	GateFastLeaseKeepAlive     = "FastLeaseKeepAlive"
	GateInitialCorruptCheck    = "InitialCorruptCheck"
	GateCompactHashCheck       = "CompactHashCheck"
	GateSetMemberLocalAddr     = "SetMemberLocalAddr"

	allAlpha, allBeta = "AllAlpha", "AllBeta"
)

// Gate says whether a feature gate is open: as it was set, as all of its stage were set, or by default.
func (c *Config) Gate(name string) bool { return c.gates.Open(name) }

// isBeta tells the stage of a gate: those that are BETA are open by default.
func isBeta(name string) bool { return gateDefaults[name] || name == allBeta }

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
		if isBeta(name) {
			stage = "BETA"
		}
		out = append(out, Gate{name, stage, c.Gate(name)})
	}
	return out
}

// idleGates says which of the gates that were set away from their default have no effect.
func (c *Config) idleGates() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c.gates)) {
		if why, idle := idleGates[name]; idle && c.gates[name] != gateDefaults[name] {
			out = append(out, name+": "+why)
		}
	}
	return strings.Join(out, "; ")
}

// GateSet holds the feature gates that were set.
type GateSet map[string]bool

// Open says whether a gate is open: as it was set, as all of its stage were set, or by default. One that is not known is shut.
func (g GateSet) Open(name string) bool {
	if on, ok := g[name]; ok {
		return on
	}
	all := allAlpha
	if isBeta(name) {
		all = allBeta
	}
	if on, ok := g[all]; ok && name != allAlpha && name != allBeta {
		return on
	}
	return gateDefaults[name]
}

// String is the set as the flag takes it.
func (g GateSet) String() string {
	names := slices.Sorted(maps.Keys(g))
	for i, n := range names {
		names[i] = n + "=" + strconv.FormatBool(g[n])
	}
	return strings.Join(names, ",")
}

func gates(p *GateSet) value {
	return setting[GateSet]{p: p, parse: ParseGates, format: GateSet.String}
}

// ParseGates reads NAME=true|false separated by commas, in etcd's words where something is wrong with it.
func ParseGates(s string) (GateSet, error) {
	out := GateSet{}
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
			return nil, fmt.Errorf("invalid value of %s=%s, err: %w", name, val, err)
		}
		if _, known := gateDefaults[name]; !known {
			return nil, fmt.Errorf("unrecognized feature gate: %s", name)
		}
		out[name] = on
	}
	return out, nil
}
