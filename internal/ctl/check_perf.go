package ctl

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	perfTime = time.Minute
	// perfSlowest and perfDeviation are the longest put and the widest spread, in seconds, that pass.
	perfSlowest   = 500 * time.Millisecond
	perfDeviation = 0.1
	// perfShare of the asked-for rate must be reached.
	perfShare = 0.9
)

var perfLoads = map[string]workload{
	"s":  {clients: 50, rate: 150, valueSize: 1024},
	"m":  {clients: 200, rate: 1000, valueSize: 1024},
	"l":  {clients: 500, rate: 8000, valueSize: 1024},
	"xl": {clients: 1000, rate: 15000, valueSize: 1024},
}

func (s *session) checkPerfCommand() *cobra.Command {
	f := &checkFlags{}
	return f.command(s, "perf", "Writes for a minute and judges throughput and latency",
		[]string{"s(small)", "m(medium)", "l(large)", "xl(xLarge)"},
		func(ctx context.Context, c *clientv3.Client, load string) error {
			w := perfLoads[load]
			w.time = perfTime
			w.key = func(n int) string {
				var number [8]byte
				binary.LittleEndian.PutUint64(number[:], uint64(n)*0x9e3779b97f4a7c15) // spread over the prefix
				return f.prefix + string(number[:])
			}
			seconds := s.startBar(w.rate*int(perfTime/time.Second), int(perfTime/time.Second))
			start := time.Now()
			o := w.run(ctx, c, func(done int) {
				now := time.Now()
				seconds.show(done, min(int(now.Sub(start)/time.Second), seconds.total), now)
			})
			seconds.show(o.done, seconds.total, time.Now())
			seconds.end("\n")
			if ctx.Err() != nil { // a minute that was cut short is not judged
				return ctx.Err()
			}
			return s.judgePerf(w.rate, o)
		})
}

// judgePerf prints a line for each thing that counts, and the verdict.
func (s *session) judgePerf(rate int, o outcome) error {
	passed := true
	judge := func(ok bool, good, bad string, args ...any) {
		if passed = passed && ok; ok {
			fmt.Fprintf(s.Stdout, "PASS: "+good+"\n", args...)
			return
		}
		fmt.Fprintf(s.Stdout, "FAIL: "+bad+"\n", args...)
	}
	if o.failed > 0 {
		passed = false
		fmt.Fprintf(s.Stdout, "FAIL: too many errors\nFAIL: ERROR(%v) -> %d\n", o.firstError, o.failed)
	}
	perSecond := int(float64(o.done)/o.took.Seconds() + 0.5)
	judge(float64(o.done)/o.took.Seconds() > float64(rate)*perfShare, "Throughput is %d writes/s", "Throughput too low: %d writes/s", perSecond)
	judge(o.slowest <= perfSlowest, "Slowest request took %fs", "Slowest request took too long: %fs", o.slowest.Seconds())
	judge(o.deviation() <= perfDeviation, "Stddev is %fs", "Stddev too high: %fs", o.deviation())
	if !passed {
		fmt.Fprintln(s.Stdout, "FAIL")
		return silent(statusError)
	}
	fmt.Fprintln(s.Stdout, "PASS")
	return nil
}
