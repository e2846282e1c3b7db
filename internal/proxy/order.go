package proxy

import (
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// order knows the highest revision that members have told of.
type order struct{ highest atomic.Int64 }

func (o *order) saw(h *etcdserverpb.ResponseHeader) {
	for now := h.GetRevision(); ; {
		old := o.highest.Load()
		if now <= old || o.highest.CompareAndSwap(old, now) {
			return
		}
	}
}

func (o *order) seen() int64 { return o.highest.Load() }
