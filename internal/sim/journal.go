package sim

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand"

	"google.golang.org/protobuf/proto"
)

// journal tells what a world has come to after each step, so that two runs of a seed can be compared: where the first line differs,
// something but the seed has had its say.
type journal struct {
	w     *bufio.Writer // nil: nobody wants to know
	lines int
}

// Journal has the world write its journal from now on. The caller flushes it when the world has ended.
func (w *World) Journal(out io.Writer) *bufio.Writer {
	w.journal.w = bufio.NewWriter(out)
	return w.journal.w
}

// record writes a line on the world as it is after a step.
func (w *World) record(step string) {
	j := &w.journal
	if j.w == nil {
		return
	}
	j.lines++
	fmt.Fprintf(j.w, "%d %s, %d draws, %d clients, %d renewals, %s", j.lines, step, w.draws.n, len(w.clients), len(w.renewals), w.network.text())
	for _, h := range w.hosts {
		if h.m == nil {
			fmt.Fprintf(j.w, "; %d down", h.n)
			continue
		}
		n, log := h.m.Node(), h.m.Log()
		fmt.Fprintf(j.w, "; %d leader %x term %d committed %d applied %d log %d-%d state %d",
			h.n, n.Leader(), n.Term(), n.Committed(), n.Applied(), log.FirstIndex(), log.LastIndex(), log.Mark().Generation)
	}
	fmt.Fprintln(j.w)
}

// text is how many packets there are, and what they carry.
func (n *network) text() string {
	sum := fnv.New32a()
	for _, p := range n.queue {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.m)
		if err != nil {
			n.w.t.Fatal(err)
		}
		sum.Write(b)
	}
	return fmt.Sprintf("%d packets %08x", len(n.queue), sum.Sum32())
}

// draws is a source of numbers that counts them.
type draws struct {
	rand.Source64
	n int
}

func (d *draws) Int63() int64 { d.n++; return d.Source64.Int63() }

func (d *draws) Uint64() uint64 { d.n++; return d.Source64.Uint64() }
