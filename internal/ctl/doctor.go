package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Exit statuses of doctor, besides 1 for a cluster that cannot be asked at all.
const (
	statusWarnings = 10
	statusSerious  = 20
)

// severity is how bad a finding is.
type severity int

const (
	notice severity = iota
	warning
	serious
)

func (v severity) String() string { return [...]string{"notice", "warning", "serious"}[v] }

// finding is one thing that is wrong, and what to do about it.
type finding struct {
	severity severity
	Severity string `json:"severity"`
	About    string `json:"about"` // a member, or the cluster
	What     string `json:"what"`
	Fix      string `json:"fix"` // a command, or what to do
}

func (s *session) doctorCommand() *cobra.Command {
	var hash bool
	c := &cobra.Command{Use: "doctor [options]", Short: "Says what is wrong with a cluster and what to do",
		Long: "Asks all members and says what is wrong, each with the command that mends it. Nothing is changed. The exit status is 0\n" +
			"when nothing is wrong or only notices were found, 10 for warnings, 20 for what is serious, 1 when nobody answers."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return badArguments("doctor needs no argument")
		}
		if err := s.forms("simple", "json"); err != nil {
			return err
		}
		return s.doctor(ctx, hash)
	})
	c.Flags().BoolVar(&hash, "hash", true, "compare the hashes of all keys; members read all of their keys for it")
	return c
}

func (s *session) doctor(ctx context.Context, hash bool) error {
	x, err := s.examine(ctx)
	if err != nil {
		return err
	}
	defer x.scraper.close()
	for _, check := range clusterChecks {
		check(x)
	}
	x.checkCertificates(ctx)
	if hash {
		x.checkHashes(ctx)
	}
	slices.SortStableFunc(x.findings, func(a, b finding) int { return int(b.severity) - int(a.severity) })
	if err := s.printFindings(x); err != nil {
		return err
	}
	switch {
	case len(x.findings) == 0 || x.findings[0].severity == notice:
		return nil
	case x.findings[0].severity == warning:
		return silent(statusWarnings)
	}
	return silent(statusSerious)
}

func (s *session) printFindings(x *examination) error {
	if s.settings.format == "json" {
		if x.findings == nil {
			x.findings = []finding{}
		}
		return json.NewEncoder(s.Stdout).Encode(x.findings)
	}
	c := s.paint()
	return (&page{Writer: s.Stdout}).buffered(func(p *page) {
		for _, f := range x.findings {
			word := fmt.Sprintf("%-8s", f.severity)
			switch f.severity {
			case serious:
				word = c.red(word)
			case warning:
				word = c.yellow(word)
			}
			p.line(word + " " + c.bold(f.About) + ": " + f.What)
			p.line("         " + c.cyan("-> "+f.Fix))
		}
		p.printf("%s; %s\n", answering(len(x.members), x.answering()), counted(len(x.findings), "finding"))
	})
}

// patient is a member and what it said.
type patient struct {
	*pb.Member
	endpoint string // the client address that answered, or the first
	status   *pb.StatusResponse
	err      error    // why there is no status
	silent   []string // further client addresses that do not answer
	metrics  *scraped
	asked    time.Time // when the metrics were asked for
}

func (p *patient) name() string {
	if n := p.GetName(); n != "" {
		return shown([]byte(n))
	}
	return fmt.Sprintf("%x", p.GetID())
}

// examination is what all members said, and what is found wrong in it.
type examination struct {
	s        *session
	spec     clientv3.ConfigSpec
	scraper  *scraper
	members  []*patient
	agreed   error // why the cluster does not answer as one; nil: it does
	alarms   []*pb.AlarmMember
	auth     bool // users are checked
	authTold bool
	findings []finding
}

func (x *examination) find(v severity, about, what, fix string, args ...any) {
	x.findings = append(x.findings, finding{severity: v, Severity: v.String(), About: about, What: what, Fix: fmt.Sprintf(fix, args...)})
}

func (x *examination) answering() int {
	n := 0
	for _, m := range x.members {
		if m.status != nil {
			n++
		}
	}
	return n
}

// leader returns the member that itself says it leads.
func (x *examination) leader() *patient {
	for _, m := range x.members {
		if m.status != nil && m.status.GetLeader() == m.GetID() {
			return m
		}
	}
	return nil
}

// examine asks everything. It fails only when no endpoint tells the members.
func (s *session) examine(ctx context.Context) (*examination, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	x := &examination{s: s}
	if x.spec, err = s.clientSpec(); err != nil {
		return nil, err
	}
	if x.scraper, err = s.scraper(x.spec); err != nil {
		return nil, err
	}
	members, err := x.memberList(ctx, c)
	if err != nil {
		x.scraper.close()
		return nil, err
	}
	for _, m := range members {
		x.members = append(x.members, &patient{Member: m})
	}
	var wg sync.WaitGroup
	for _, m := range x.members {
		wg.Go(func() { x.ask(ctx, m) })
	}
	wg.Wait()
	return x, s.askCluster(ctx, c, x)
}

// memberList asks the cluster, and when it does not agree any member that answers.
func (x *examination) memberList(ctx context.Context, c *clientv3.Client) ([]*pb.Member, error) {
	for _, options := range [][]clientv3.OpOption{nil, {clientv3.WithSerializable()}} {
		asked, cancel := x.s.request(ctx)
		r, err := c.MemberList(asked, options...)
		cancel()
		if err == nil {
			return r.Members, nil
		}
		if x.agreed == nil {
			x.agreed = err
			continue
		}
		return nil, fmt.Errorf("no member answers: %w", err)
	}
	return nil, errors.New("no member answers")
}

// askCluster asks for what concerns all members.
func (s *session) askCluster(ctx context.Context, c *clientv3.Client, x *examination) error {
	if x.agreed != nil {
		return nil
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	if _, err := c.Get(ctx, "health", clientv3.WithCountOnly()); err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
		x.agreed = err
		return nil
	}
	if r, err := c.AlarmList(ctx); err == nil {
		x.alarms = r.Alarms
	}
	if r, err := c.AuthStatus(ctx); err == nil {
		x.auth, x.authTold = r.Enabled, true
	}
	return nil
}

// ask asks one member for its status at all of its client addresses, and for its metrics where one answers.
func (x *examination) ask(ctx context.Context, m *patient) {
	m.err = errors.New("it tells no client address")
	for _, u := range m.GetClientURLs() {
		status, err := x.statusAt(ctx, u)
		switch {
		case err != nil:
			m.silent = append(m.silent, u)
			if m.status == nil {
				m.err = err
			}
		case m.status == nil:
			m.status, m.err, m.endpoint = status, nil, u
		}
	}
	if m.status == nil {
		m.endpoint = strings.Join(m.GetClientURLs(), ",")
		return
	}
	m.asked = time.Now()
	if found, err := x.scraper.scrape(ctx, m.endpoint, doctorMetrics); err == nil {
		m.metrics = found
	}
}

func (x *examination) statusAt(ctx context.Context, endpoint string) (*pb.StatusResponse, error) {
	c, err := x.s.atEndpoint(x.spec, endpoint)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := x.s.request(ctx)
	defer cancel()
	r, err := c.Status(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	return (*pb.StatusResponse)(r), nil
}

// plainAndOpen tells whether a URL is without TLS and reached from other machines.
func plainAndOpen(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return false
	}
	host := u.Hostname()
	return host != "localhost" && host != "::1" && !strings.HasPrefix(host, "127.")
}
