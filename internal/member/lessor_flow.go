package member

import "time"

// flowTime is how long the way through the log should be at most for the ends of leases: the puts of clients go behind those
// that are on it.
const flowTime = time.Second / 16

// flow says how many leases may be on their way to their end: as many as have ended in the last flowTime, and a burst more, so
// that on a machine that is slow they do not fill the log before everybody else.
type flow struct {
	at    time.Duration // when the present time of counting began
	most  int           // how many may be under way
	under int           // how many were at its beginning
	begun int           // how many have begun since
}

// may returns how many more may begin now, when that many are under way.
func (f *flow) may(now time.Duration, under int) int {
	if took := now - f.at; took >= flowTime || f.most == 0 {
		ended := f.under + f.begun - under
		if took > 0 {
			ended = int(time.Duration(ended) * flowTime / max(took, flowTime))
		}
		*f = flow{at: now, most: min(max(ended+burstMax, 2*burstMax), endingMax), under: under}
	}
	return max(0, f.most-under)
}

// begin notes that n have begun.
func (f *flow) begin(n int) { f.begun += n }
