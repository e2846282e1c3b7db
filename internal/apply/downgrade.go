package apply

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/membershippb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// setDowngrade says to which version the cluster is on its way, or that it is on its way no more. What may be asked for
// is checked before it is proposed.
func (g *group) setDowngrade(raw []byte) error {
	var r membershippb.DowngradeInfoSetRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	d := cluster.Downgrade{}
	if r.GetEnabled() {
		d = cluster.Downgrade{TargetVersion: r.GetVer(), Enabled: true}
	}
	return g.change().SetDowngrade(d)
}
