package embed

import (
	"fmt"
	"maps"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// Feature is the name of a feature gate.
type Feature string

// The feature gates of etcd; docs/compatibility.md says which of them have an effect.
const (
	CompactHashCheck             Feature = config.GateCompactHashCheck
	FastLeaseKeepAlive           Feature = config.GateFastLeaseKeepAlive
	InitialCorruptCheck          Feature = config.GateInitialCorruptCheck
	LeaseCheckpoint              Feature = config.GateLeaseCheckpoint
	LeaseCheckpointPersist       Feature = config.GateLeaseCheckpointPersist
	PriorityRequest              Feature = "PriorityRequest"
	SetMemberLocalAddr           Feature = config.GateSetMemberLocalAddr
	StopGRPCServiceOnDefrag      Feature = "StopGRPCServiceOnDefrag"
	TxnModeWriteWithSharedBuffer Feature = "TxnModeWriteWithSharedBuffer"
)

// FeatureGate holds feature gates, open or shut. It must not be changed while others use it; that of a member that runs is a copy.
// A nil FeatureGate has the defaults, and cannot be changed.
type FeatureGate struct{ set config.GateSet }

// Enabled tells whether a gate is open; one that is not known is shut.
func (g *FeatureGate) Enabled(f Feature) bool { return g.gates().Open(string(f)) }

// Set opens and shuts gates, named as NAME=true|false and separated by commas; the others stay as they are. Nothing is changed when one
// of them is not known.
func (g *FeatureGate) Set(value string) error {
	fresh, err := config.ParseGates(value)
	if err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	set := maps.Clone(g.set)
	if set == nil {
		set = config.GateSet{}
	}
	maps.Copy(set, fresh)
	g.set = set
	return nil
}

// SetFromMap is Set for gates in a map.
func (g *FeatureGate) SetFromMap(m map[string]bool) error { return g.Set(config.GateSet(m).String()) }

// KnownFeatures describes all gates, by name.
func (g *FeatureGate) KnownFeatures() []string {
	var out []string
	var c config.Config
	for _, x := range c.Gates() {
		out = append(out, fmt.Sprintf("%s=true|false (%s - default=%t)", x.Name, x.Stage, x.On))
	}
	return out
}

// DeepCopy returns a copy that can be changed by itself.
func (g *FeatureGate) DeepCopy() *FeatureGate { return &FeatureGate{maps.Clone(g.gates())} }

// String returns the gates that were set, as Set takes them.
func (g *FeatureGate) String() string { return g.gates().String() }

func (g *FeatureGate) gates() config.GateSet {
	if g == nil {
		return nil
	}
	return g.set
}
