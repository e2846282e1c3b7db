package metrics

import (
	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/rpc"
)

// eachPeer is a counter of each other member, told once it is not zero unless always.
func eachPeer(name, help, label string, always bool, read func(*peer.Measures) float64) row {
	return labelled(c, name, help, []string{label}, func(v *view, put *putter) {
		for _, p := range v.peers {
			if x := read(p); always || x != 0 {
				put.value(x, hex(p.ID))
			}
		}
	})
}

// peerTimes is a histogram of each other member.
func peerTimes(name, help, label string, of func(*peer.Measures) *measure.Histogram) row {
	return labelled(0, name, help, []string{label}, func(v *view, put *putter) {
		for _, p := range v.peers {
			put.times(of(p), hex(p.ID))
		}
	})
}

// snapshots are the metrics of snapshots in one direction.
func snapshots(direction, label string, of func(*peer.Measures) *peer.Snapshots) []row {
	name := "etcd_network_snapshot_" + direction
	return []row{
		eachPeer(name+"_success", "Total number of successful snapshot "+direction+"s", label, false,
			func(p *peer.Measures) float64 { return float64(of(p).Succeeded.Value()) }),
		eachPeer(name+"_failures", "Total number of snapshot "+direction+" failures", label, false,
			func(p *peer.Measures) float64 { return float64(of(p).Failed.Value()) }),
		labelled(g, name+"_inflights_total", "Total number of inflight snapshot "+direction+"s", []string{label},
			func(v *view, put *putter) {
				for _, p := range v.peers {
					if s := of(p); s.Running.Load()+int64(s.Succeeded.Value()+s.Failed.Value()) > 0 {
						put.value(float64(s.Running.Load()), hex(p.ID))
					}
				}
			}),
		peerTimes(name+"_total_duration_seconds", "Total latency distributions of v3 snapshot "+direction+"s", label,
			func(p *peer.Measures) *measure.Histogram { return of(p).Took }),
	}
}

// networkRows are what etcd_network_ names.
var networkRows = append(append([]row{
	labelled(g, "etcd_network_known_peers", "The current number of known peers.", []string{"Local", "Remote"},
		func(v *view, put *putter) {
			for _, x := range v.members {
				put.value(1, hex(v.Member.ID()), x.ID.String())
			}
		}),
	labelled(g, "etcd_network_active_peers", "The current number of active peer connections.", []string{"Local", "Remote"},
		func(v *view, put *putter) {
			for _, p := range v.peers {
				put.value(flag(p.Up()), hex(v.Member.ID()), hex(p.ID))
			}
		}),
	labelled(c, "etcd_network_disconnected_peers_total", "The total number of disconnected peers.", []string{"Local", "Remote"},
		func(v *view, put *putter) {
			for _, p := range v.peers {
				if n := p.Disconnects.Value(); n > 0 {
					put.value(float64(n), hex(v.Member.ID()), hex(p.ID))
				}
			}
		}),
	eachPeer("etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", "To", true,
		func(p *peer.Measures) float64 { return float64(p.Sent.Value()) }),
	eachPeer("etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", "From", true,
		func(p *peer.Measures) float64 { return float64(p.Received.Value()) }),
	eachPeer("etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", "To", false,
		func(p *peer.Measures) float64 { return float64(p.SendFailures.Value()) }),
	eachPeer("etcd_network_peer_received_failures_total", "The total number of receive failures from peers.", "From", false,
		func(p *peer.Measures) float64 { return float64(p.ReceiveFailures.Value()) }),
	peerTimes("etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers", "To",
		func(p *peer.Measures) *measure.Histogram { return p.RoundTrips }),
	counted("etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from grpc clients.",
		func(v *view) *measure.Counter { return &v.Calls.BytesReceived }),
	counted("etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to grpc clients.",
		func(v *view) *measure.Counter { return &v.Calls.BytesSent }),
}, snapshots("send", "To", func(p *peer.Measures) *peer.Snapshots { return &p.SnapshotsSent })...),
	snapshots("receive", "From", func(p *peer.Measures) *peer.Snapshots { return &p.SnapshotsReceived })...)

// method are the labels of a method.
var method = []string{"grpc_type", "grpc_service", "grpc_method"}

// eachCall is a counter of each method.
func eachCall(name, help string, of func(*rpc.Calls) *measure.Counter) row {
	return labelled(c, name, help, method, func(v *view, put *putter) {
		v.Calls.EachCalls(func(x *rpc.Calls) { put.value(float64(of(x).Value()), x.Type, x.Service, x.Method) })
	})
}

// callRows are what grpc_server_ names.
var callRows = []row{
	eachCall("grpc_server_started_total", "Total number of RPCs started on the server.",
		func(x *rpc.Calls) *measure.Counter { return &x.Started }),
	eachCall("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.",
		func(x *rpc.Calls) *measure.Counter { return &x.Received }),
	eachCall("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.",
		func(x *rpc.Calls) *measure.Counter { return &x.Sent }),
	labelled(c, "grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.",
		append([]string{"grpc_code"}, method...), func(v *view, put *putter) {
			v.Calls.EachCalls(func(x *rpc.Calls) {
				for code := range x.Handled {
					put.value(float64(x.Handled[code].Value()), rpc.CodeName(code), x.Type, x.Service, x.Method)
				}
			})
		}),
	labelled(0, "grpc_server_handling_seconds",
		"Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
		method, func(v *view, put *putter) {
			v.Calls.EachCalls(func(x *rpc.Calls) {
				if x.Times != nil {
					put.histogram(x.Times, seconds, x.Type, x.Service, x.Method)
				}
			})
		}),
}
