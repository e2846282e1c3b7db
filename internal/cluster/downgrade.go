package cluster

import (
	"encoding/json"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Downgrade says whether the cluster is on its way to an earlier version, and to which one. Its JSON is etcd's, in
// the record of a state and in etcd's database.
type Downgrade struct {
	// TargetVersion is a version such as "3.6.0", "" while Enabled is false.
	TargetVersion string `json:"target-version"`
	Enabled       bool   `json:"enabled"`
}

var downgradeKey = storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("downgrade"))

// loadDowngrade reads the record of a state; none is the zero Downgrade.
func loadDowngrade(db *storage.DB) (d Downgrade, err error) {
	_, err = db.Get(downgradeKey, func(b []byte) error {
		if err := json.Unmarshal(b, &d); err != nil {
			return storage.Corruptf(db.Dir(), "the record of the downgrade cannot be read: %w", err)
		}
		return nil
	})
	return d, err
}

// Downgrade returns the downgrade that is under way, if one is.
func (m *Membership) Downgrade() Downgrade { return m.now.Load().downgrade }

// SetDowngrade says which downgrade is under way.
func (c *Change) SetDowngrade(d Downgrade) error {
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode the downgrade: %w", err)
	}
	c.v.downgrade = d
	return c.b.Set(downgradeKey, value, nil)
}
