package h2_test

import "golang.org/x/net/http2"

// flowAccount counts what a server may send to a client, by the client's windows.
type flowAccount struct {
	initial int64            // of a stream, as the server knows it at the most
	conn    int64            // left of the connection's window
	streams map[uint32]int64 // granted or spent beyond the initial window
	pending [][]int64        // settings sent and not acknowledged: initial windows that are smaller
}

func newAccount() flowAccount {
	return flowAccount{initial: 65535, conn: 65535, streams: map[uint32]int64{}}
}

// announced notes settings that are about to be sent. A larger window counts at once, a smaller from its acknowledgement on.
func (a *flowAccount) announced(settings []http2.Setting) {
	var smaller []int64
	for _, s := range settings {
		if s.ID != http2.SettingInitialWindowSize {
			continue
		}
		if n := int64(s.Val); n >= a.initial && len(a.pending) == 0 {
			a.initial = n
		} else {
			smaller = append(smaller, n)
			a.initial = max(a.initial, n)
		}
	}
	a.pending = append(a.pending, smaller)
}

// acknowledged notes that the oldest settings hold.
func (a *flowAccount) acknowledged() {
	if len(a.pending) == 0 {
		return
	}
	for _, n := range a.pending[0] {
		a.initial = n
	}
	a.pending = a.pending[1:]
	for _, later := range a.pending {
		for _, n := range later {
			a.initial = max(a.initial, n)
		}
	}
}

func (a *flowAccount) granted(id uint32, n int64) {
	if id == 0 {
		a.conn += n
		return
	}
	a.streams[id] += n
}

// spend tells whether the server might send n bytes.
func (a *flowAccount) spend(id uint32, n int64) bool {
	a.conn -= n
	a.streams[id] -= n
	return n == 0 || a.conn >= 0 && a.initial+a.streams[id] >= 0
}
