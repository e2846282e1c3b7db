package ctl

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var datascaleLoads = map[string]workload{
	"s":  {puts: 10_000, valueSize: 1024, clients: 50},
	"m":  {puts: 100_000, valueSize: 1024, clients: 200},
	"l":  {puts: 1_000_000, valueSize: 1024, clients: 500},
	"xl": {puts: 3_000_000, valueSize: 1024, clients: 1000},
}

func (s *session) checkDatascaleCommand() *cobra.Command {
	f := &checkFlags{}
	return f.command(s, "datascale", "Writes keys and tells how much memory they take at the endpoint",
		[]string{"s(small)", "m(medium)", "l(large)", "xl(xLarge)"},
		func(ctx context.Context, c *clientv3.Client, load string) error {
			w := datascaleLoads[load]
			w.key = func(n int) string { return f.prefix + strconv.Itoa(n) }
			if n := len(c.Endpoints()); n != 1 {
				return badArguments("expected 1 endpoint, got %d", n)
			}
			endpoint := c.Endpoints()[0]
			before, err := s.residentMemory(ctx, endpoint)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Stdout, "Start data scale check for work load [%d key-value pairs, %d bytes per key-value, %d concurrent clients].\n",
				w.puts, w.valueSize, w.clients)
			bar := s.startBar(w.puts, w.puts)
			o := w.run(ctx, c, func(done int) { bar.show(done, done, time.Now()) })
			bar.end("")
			after, err := s.residentMemory(ctx, endpoint)
			if err != nil {
				return err
			}
			if o.failed > 0 {
				fmt.Fprintf(s.Stdout, "FAIL: too many errors\nFAIL: ERROR(%v) -> %d\n", o.firstError, o.failed)
				return silent(statusError)
			}
			fmt.Fprintf(s.Stdout, "PASS: Approximate system memory used : %.2f MB.\n", max(0, after-before)/(1<<20))
			return nil
		})
}

// residentMemory reads from a server's metrics how many bytes of memory it has.
func (s *session) residentMemory(ctx context.Context, endpoint string) (float64, error) {
	const name = "process_resident_memory_bytes "
	var tlsConfig *tls.Config
	spec, err := s.clientSpec()
	if err == nil {
		var cfg *clientv3.Config
		if cfg, err = clientv3.NewClientConfig(&spec, s.clientLog()); err == nil {
			tlsConfig = cfg.TLS
		}
	}
	if err != nil {
		return 0, err
	}
	if !strings.Contains(endpoint, "://") {
		scheme := "http://"
		if tlsConfig != nil {
			scheme = "https://"
		}
		endpoint = scheme + endpoint
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("asking for metrics: %w", err)
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, fmt.Errorf("asking for metrics: %w", err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", request.URL, strings.TrimSpace(name))
}
