package ctl

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// scrapeBytesMax bounds what is read of a member's metrics.
	scrapeBytesMax = 32 << 20
	scrapeLineMax  = 64 << 10
)

// sample is one line of metrics.
type sample struct {
	labels map[string]string
	value  float64
}

// scraped are the metrics of a member at one time, by name; only those that were asked for.
type scraped struct {
	at      time.Time
	clock   time.Time // the member's own, in whole seconds; zero when it told none
	samples map[string][]sample
}

// scraper reads the metrics of members over HTTP, on their client addresses.
type scraper struct {
	client *http.Client
	secure bool // addresses without a scheme have TLS
}

func (s *session) scraper(spec clientv3.ConfigSpec) (*scraper, error) {
	cfg, err := clientv3.NewClientConfig(&spec, zap.NewNop())
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: cfg.TLS, DisableCompression: true}
	return &scraper{client: &http.Client{Transport: transport, Timeout: s.settings.commandTimeout}, secure: cfg.TLS != nil}, nil
}

func (c *scraper) close() { c.client.CloseIdleConnections() }

// url returns the address of a page of an endpoint.
func (c *scraper) url(endpoint, path string) string {
	switch {
	case strings.HasPrefix(endpoint, "http://"), strings.HasPrefix(endpoint, "https://"):
		return strings.TrimSuffix(endpoint, "/") + path
	case c.secure:
		return "https://" + endpoint + path
	}
	return "http://" + endpoint + path
}

// scrape reads the metrics whose names wanted holds.
func (c *scraper) scrape(ctx context.Context, endpoint string, wanted map[string]bool) (*scraped, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(endpoint, "/metrics"), nil)
	if err != nil {
		return nil, fmt.Errorf("asking for metrics: %w", err)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("asking for metrics: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking for metrics: %s", answer.Status)
	}
	out := &scraped{at: time.Now()}
	out.clock, _ = http.ParseTime(answer.Header.Get("Date"))
	out.samples, err = parseMetrics(answer.Body, wanted)
	return out, err
}

var errMetrics = errors.New("these are no metrics of Prometheus")

// parseMetrics reads the text format. Lines of other names are skipped unread.
func parseMetrics(r io.Reader, wanted map[string]bool) (map[string][]sample, error) {
	out := map[string][]sample{}
	lines := bufio.NewScanner(io.LimitReader(r, scrapeBytesMax))
	lines.Buffer(make([]byte, 0, 4096), scrapeLineMax)
	for lines.Scan() {
		line := lines.Text()
		name := line[:strings.IndexAny(line+" ", "{ ")]
		if !wanted[name] {
			continue
		}
		s, err := parseSample(line[len(name):])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = append(out[name], s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	return out, nil
}

// parseSample reads what follows the name: labels in braces, and the value.
func parseSample(rest string) (sample, error) {
	var s sample
	if strings.HasPrefix(rest, "{") {
		s.labels = map[string]string{}
		rest = rest[1:]
		for !strings.HasPrefix(rest, "}") {
			name, after, ok := strings.Cut(rest, `="`)
			if !ok {
				return s, errMetrics
			}
			value, after, ok := labelValue(after)
			if !ok {
				return s, errMetrics
			}
			s.labels[name] = value
			rest = strings.TrimPrefix(after, ",")
		}
		rest = rest[1:]
	}
	words := strings.Fields(rest)
	if len(words) == 0 {
		return s, errMetrics
	}
	var err error
	if s.value, err = strconv.ParseFloat(words[0], 64); err != nil {
		return s, errMetrics
	}
	return s, nil
}

// labelValue reads to the closing quote; \\, \" and \n are the only escapes.
func labelValue(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:], true
		case text[i] == '\\' && i+1 < len(text):
			i++
			if text[i] == 'n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false
}

// one returns the value of a metric without labels.
func (m *scraped) one(name string) (float64, bool) {
	if m == nil || len(m.samples[name]) == 0 {
		return 0, false
	}
	return m.samples[name][0].value, true
}

// sum returns the sum of a metric over its labels.
func (m *scraped) sum(name string) (sum float64, ok bool) {
	if m == nil {
		return 0, false
	}
	for _, s := range m.samples[name] {
		sum += s.value
	}
	return sum, len(m.samples[name]) > 0
}

// by sums the values of a metric by one of its labels.
func (m *scraped) by(name, label string) map[string]float64 {
	out := map[string]float64{}
	if m != nil {
		for _, s := range m.samples[name] {
			out[s.labels[label]] += s.value
		}
	}
	return out
}

// quantile returns the upper bound of the bucket of a histogram below which part of its values are, in its unit; ok is
// false when there are fewer than least values. It is +Inf when the last bucket is needed.
func (m *scraped) quantile(name string, part, least float64) (bound float64, ok bool) {
	if m == nil {
		return 0, false
	}
	buckets := m.samples[name+"_bucket"]
	if len(buckets) == 0 {
		return 0, false
	}
	total := buckets[len(buckets)-1].value
	if total < least {
		return 0, false
	}
	for _, b := range buckets {
		if b.value >= part*total {
			bound, err := strconv.ParseFloat(b.labels["le"], 64)
			return bound, err == nil
		}
	}
	return 0, false
}

// serverCertificates returns the certificates that an endpoint with TLS shows, without trusting them.
func (c *scraper) serverCertificates(ctx context.Context, endpoint string) (*tls.ConnectionState, error) {
	host, ok := strings.CutPrefix(c.url(endpoint, ""), "https://")
	if !ok {
		return nil, nil
	}
	d := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // looked at, never trusted: nothing is sent
	if t, ok := c.client.Transport.(*http.Transport); ok && t.TLSClientConfig != nil {
		d.Config.GetClientCertificate = t.TLSClientConfig.GetClientCertificate
		d.Config.Certificates = t.TLSClientConfig.Certificates
	}
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	return &state, nil
}
