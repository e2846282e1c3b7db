package ctl

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// topMetrics are the metrics that top reads.
var topMetrics = nameSet("grpc_server_handled_total", "grpc_server_handling_seconds_sum", "grpc_server_handling_seconds_count",
	"ashlar_request_prefix_requests", "ashlar_request_prefix_bytes", "ashlar_apply_queue_entries",
	"etcd_debugging_mvcc_watcher_total", "etcd_debugging_mvcc_slow_watcher_total", "etcd_debugging_mvcc_watch_stream_total",
	"etcd_debugging_mvcc_keys_total", "etcd_debugging_mvcc_current_revision",
	"etcd_debugging_lease_granted_total", "etcd_debugging_lease_revoked_total", "etcd_debugging_lease_renewed_total",
	"etcd_debugging_server_lease_expired_total", "etcd_server_is_leader", "etcd_server_has_leader", "etcd_server_is_learner",
	"etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total", "etcd_server_proposals_pending",
	"etcd_disk_wal_fsync_duration_seconds_sum", "etcd_disk_wal_fsync_duration_seconds_count",
	"etcd_server_apply_duration_seconds_sum", "etcd_server_apply_duration_seconds_count",
	"etcd_mvcc_db_total_size_in_use_in_bytes", "etcd_server_quota_backend_bytes", "process_resident_memory_bytes",
	"process_cpu_seconds_total")

func nameSet(names ...string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

// topView is what is shown of two looks: blocks of aligned rows, the first row of each its heading.
type topView struct {
	title  string
	blocks [][][]string
	notes  []string
	paint  paint
}

// view compares the last two looks. Rates are those between them, and dashes after the first.
func (w *topWatch) view(rows int, c paint) *topView {
	v := &topView{paint: c, title: answering(len(w.endpoints), w.answered())}
	v.blocks = append(v.blocks, w.memberRows(), w.requestRows(rows), w.prefixRows(rows), w.leaseRows())
	for _, e := range w.endpoints {
		if err := w.failed[e]; err != nil {
			v.notes = append(v.notes, fmt.Sprintf("%s: %v", e, err))
		}
	}
	return v
}

// rate returns how much a counter grew a second between two looks at an endpoint. A member that started anew
// meanwhile has none.
func (w *topWatch) rate(endpoint, name string) (float64, bool) {
	now, ok := w.now[endpoint].sum(name)
	before, was := w.last[endpoint].sum(name)
	if !ok || !was || now < before {
		return 0, false
	}
	return (now - before) / w.seconds(endpoint), true
}

func (w *topWatch) seconds(endpoint string) float64 {
	return max(0.001, w.now[endpoint].at.Sub(w.last[endpoint].at).Seconds())
}

// mean returns the mean of a histogram between two looks.
func (w *topWatch) mean(endpoint, name string) string {
	sum, ok := w.rate(endpoint, name+"_sum")
	count, was := w.rate(endpoint, name+"_count")
	if !ok || !was || count == 0 {
		return "-"
	}
	return spellSeconds(sum / count)
}

// spellSeconds spells a time with about three digits.
func spellSeconds(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Nanosecond).String()
}

func spellRate(v float64, ok bool) string {
	switch {
	case !ok:
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

func (w *topWatch) memberRows() [][]string {
	out := [][]string{{"MEMBER", "ENDPOINT", "ROLE", "REQUESTS/S", "COMMITS/S", "PENDING", "SYNC", "APPLY", "CPU", "MEMORY", "IN USE", "QUOTA", "REVISION", "KEYS", "WATCHERS", "SLOW"}}
	for _, e := range w.endpoints {
		m := w.now[e]
		if m == nil {
			row := slices.Repeat([]string{"-"}, len(out[0]))
			row[0], row[1], row[2] = w.names[e], e, "unreachable"
			out = append(out, row)
			continue
		}
		count := func(name string) string {
			v, ok := m.one(name)
			if !ok {
				return "-"
			}
			return fmt.Sprintf("%.0f", v)
		}
		size := func(name string) string {
			v, ok := m.one(name)
			if !ok {
				return "-"
			}
			return progress.Bytes(int64(v))
		}
		commits, ok := w.rate(e, "etcd_server_proposals_committed_total")
		cpu := "-"
		if v, ok := w.rate(e, "process_cpu_seconds_total"); ok {
			cpu = fmt.Sprintf("%.0f%%", 100*v)
		}
		quota := "-"
		used, _ := m.one("etcd_mvcc_db_total_size_in_use_in_bytes")
		if limit, ok := m.one("etcd_server_quota_backend_bytes"); ok && limit > 0 {
			quota = fmt.Sprintf("%.0f%%", 100*used/limit)
		}
		requests, told := w.requestRate(e)
		out = append(out, []string{w.names[e], e, memberRole(m), spellRate(requests, told), spellRate(commits, ok),
			count("etcd_server_proposals_pending"), w.mean(e, "etcd_disk_wal_fsync_duration_seconds"),
			w.mean(e, "etcd_server_apply_duration_seconds"), cpu, size("process_resident_memory_bytes"),
			size("etcd_mvcc_db_total_size_in_use_in_bytes"), quota, count("etcd_debugging_mvcc_current_revision"),
			count("etcd_debugging_mvcc_keys_total"), count("etcd_debugging_mvcc_watcher_total"), count("etcd_debugging_mvcc_slow_watcher_total")})
	}
	return out
}

func memberRole(m *scraped) string {
	is := func(name string) bool { v, _ := m.one(name); return v > 0 }
	switch {
	case is("etcd_server_is_leader"):
		return "leader"
	case !is("etcd_server_has_leader"):
		return "no leader"
	case is("etcd_server_is_learner"):
		return "learner"
	}
	return "follower"
}

// grew returns how much each label's sum grew a second at an endpoint.
func (w *topWatch) grew(endpoint, name, label string) map[string]float64 {
	out := map[string]float64{}
	if w.now[endpoint] == nil || w.last[endpoint] == nil {
		return out
	}
	before := w.last[endpoint].by(name, label)
	for l, v := range w.now[endpoint].by(name, label) {
		out[l] = max(0, v-before[l]) / w.seconds(endpoint)
	}
	return out
}

func (w *topWatch) requestRate(endpoint string) (sum float64, ok bool) {
	for _, v := range w.grew(endpoint, "grpc_server_handled_total", "grpc_method") {
		sum += v
	}
	return sum, w.last[endpoint] != nil
}

// everywhere adds up what grew at all members.
func (w *topWatch) everywhere(name, label string) map[string]float64 {
	out := map[string]float64{}
	for _, e := range w.endpoints {
		for l, v := range w.grew(e, name, label) {
			out[l] += v
		}
	}
	return out
}

// requestRows are the requests by their time, or by their rate where members do not tell times.
func (w *topWatch) requestRows(rows int) [][]string {
	out := [][]string{{"REQUEST", "PER SECOND", "MEAN TIME"}}
	rates := w.everywhere("grpc_server_handled_total", "grpc_method")
	sums := w.everywhere("grpc_server_handling_seconds_sum", "grpc_method")
	counts := w.everywhere("grpc_server_handling_seconds_count", "grpc_method")
	mean := func(name string) float64 {
		if counts[name] == 0 {
			return 0
		}
		return sums[name] / counts[name]
	}
	for _, name := range firstBy(rates, rows, func(name string) (float64, float64) { return mean(name), rates[name] }) {
		if rates[name] == 0 {
			continue
		}
		taken := "-"
		if m := mean(name); m > 0 {
			taken = spellSeconds(m)
		}
		out = append(out, []string{name, spellRate(rates[name], true), taken})
	}
	return out
}

// firstBy returns the names with the greatest numbers; equal ones are in the order of names.
func firstBy(names map[string]float64, rows int, of func(string) (float64, float64)) []string {
	var out []string
	for n := range names {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b string) int {
		a1, a2 := of(a)
		b1, b2 := of(b)
		return cmp.Or(cmp.Compare(b1, a1), cmp.Compare(b2, a2), cmp.Compare(a, b))
	})
	return out[:min(rows, len(out))]
}

// prefixRows are the prefixes by their bytes between the looks, then since the start.
func (w *topWatch) prefixRows(rows int) [][]string {
	out := [][]string{{"PREFIX", "REQUESTS/S", "BYTES/S", "REQUESTS", "BYTES"}}
	requests, bytes := w.everywhere("ashlar_request_prefix_requests", "prefix"), w.everywhere("ashlar_request_prefix_bytes", "prefix")
	allRequests, allBytes := map[string]float64{}, map[string]float64{}
	for _, m := range w.now {
		for p, v := range m.by("ashlar_request_prefix_bytes", "prefix") {
			allBytes[p] += v
		}
		for p, v := range m.by("ashlar_request_prefix_requests", "prefix") {
			allRequests[p] += v
		}
	}
	for _, p := range firstBy(allBytes, rows, func(p string) (float64, float64) { return bytes[p], allBytes[p] }) {
		out = append(out, []string{shown([]byte(p)), spellRate(requests[p], true), progress.Bytes(int64(bytes[p])),
			fmt.Sprintf("%.0f", allRequests[p]), progress.Bytes(int64(allBytes[p]))})
	}
	return out
}

// leaseRows tell what members did with leases, as the one that did most says: grants and ends are counted by all of them.
func (w *topWatch) leaseRows() [][]string {
	most := func(name string) string {
		found, any := 0.0, false
		for _, e := range w.endpoints {
			if v, ok := w.rate(e, name); ok {
				found, any = max(found, v), true
			}
		}
		return spellRate(found, any)
	}
	return [][]string{{"LEASES", "GRANTED/S", "RENEWED/S", "REVOKED/S", "EXPIRED/S"}, {"", most("etcd_debugging_lease_granted_total"),
		most("etcd_debugging_lease_renewed_total"), most("etcd_debugging_lease_revoked_total"), most("etcd_debugging_server_lease_expired_total")}}
}

// lines returns the view with aligned columns: the first two of a block to the left, others to the right.
func (v *topView) lines() []string {
	out := []string{v.paint.bold(v.title)}
	for _, block := range v.blocks {
		if len(block) < 2 {
			continue
		}
		out = append(out, "")
		for i, line := range alignRows(block) {
			if i == 0 {
				line = v.paint.bold(line)
			}
			out = append(out, line)
		}
	}
	if len(v.notes) > 0 {
		out = append(out, "")
	}
	for _, n := range v.notes {
		out = append(out, v.paint.red(n))
	}
	return out
}

// alignRows pads cells: those whose heading is the first, or names no number, to the left.
func alignRows(rows [][]string) []string {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	out := make([]string, len(rows))
	for k, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			switch rows[0][i] {
			case "MEMBER", "ENDPOINT", "ROLE", "REQUEST", "PREFIX", "LEASES":
				cells[i] = c + space
			default:
				cells[i] = space + c
			}
		}
		out[k] = strings.TrimRight(strings.Join(cells, "  "), " ")
	}
	return out
}

func (v *topView) write(w io.Writer) {
	fmt.Fprintln(w, strings.Join(v.lines(), "\n"))
}

// screen returns what draws a view over what stands on a terminal in raw mode, cut to its size.
func screen(v *topView, width, height int) string {
	var b strings.Builder
	b.WriteString("\x1b[H")
	lines := v.lines()
	for i, l := range lines[:min(len(lines), max(1, height-1))] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(cutLine(l, width) + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// cutLine cuts a line to a width; colours take no room.
func cutLine(line string, width int) string {
	room, escape := width, false
	for i, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case room == 0:
			return line[:i] + "\x1b[0m"
		default:
			room--
		}
	}
	return line
}
