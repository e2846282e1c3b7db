package ctl

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// looked returns what a member told at that second.
func looked(t *testing.T, second int, text string) *scraped {
	t.Helper()
	found, err := parseMetrics(strings.NewReader(text), topMetrics)
	if err != nil {
		t.Fatal(err)
	}
	return &scraped{at: time.Unix(int64(second), 0), samples: found}
}

// twoLooks are of three members, two seconds apart; one started anew between them, one does not answer.
func twoLooks(t *testing.T) *topWatch {
	t.Helper()
	return &topWatch{endpoints: []string{"a:1", "b:1", "c:1"}, names: map[string]string{"a:1": "one", "b:1": "two", "c:1": "three"},
		failed: map[string]error{"c:1": errors.New("connection refused")},
		last: map[string]*scraped{
			"a:1": looked(t, 10, `
grpc_server_handled_total{grpc_method="Put",grpc_code="OK"} 100
grpc_server_handled_total{grpc_method="Put",grpc_code="Unavailable"} 10
grpc_server_handled_total{grpc_method="Range",grpc_code="OK"} 1000
grpc_server_handling_seconds_sum{grpc_method="Put"} 1
grpc_server_handling_seconds_count{grpc_method="Put"} 110
ashlar_request_prefix_requests{prefix="/hot/"} 5
ashlar_request_prefix_bytes{prefix="/hot/"} 1000
ashlar_request_prefix_bytes{prefix="/cold/"} 99000
etcd_server_proposals_committed_total 7
etcd_disk_wal_fsync_duration_seconds_sum 1
etcd_disk_wal_fsync_duration_seconds_count 100
etcd_server_apply_duration_seconds_sum{op="Put"} 0
etcd_server_apply_duration_seconds_sum{op="Txn"} 1
etcd_server_apply_duration_seconds_count{op="Put"} 0
etcd_server_apply_duration_seconds_count{op="Txn"} 10
etcd_debugging_lease_granted_total 1
process_cpu_seconds_total 1
`),
			"b:1": looked(t, 10, "etcd_server_proposals_committed_total 1000\nprocess_cpu_seconds_total 50\n"),
		},
		now: map[string]*scraped{
			"a:1": looked(t, 12, `
grpc_server_handled_total{grpc_method="Put",grpc_code="OK"} 120
grpc_server_handled_total{grpc_method="Put",grpc_code="Unavailable"} 10
grpc_server_handled_total{grpc_method="Range",grpc_code="OK"} 1500
grpc_server_handled_total{grpc_method="Compact",grpc_code="OK"} 0
grpc_server_handling_seconds_sum{grpc_method="Put"} 1.5
grpc_server_handling_seconds_count{grpc_method="Put"} 130
ashlar_request_prefix_requests{prefix="/hot/"} 25
ashlar_request_prefix_bytes{prefix="/hot/"} 5000
ashlar_request_prefix_bytes{prefix="/cold/"} 99000
etcd_server_proposals_committed_total 27
etcd_disk_wal_fsync_duration_seconds_sum 1.2
etcd_disk_wal_fsync_duration_seconds_count 200
etcd_server_apply_duration_seconds_sum{op="Put"} 0.002
etcd_server_apply_duration_seconds_sum{op="Txn"} 1.002
etcd_server_apply_duration_seconds_count{op="Put"} 1
etcd_server_apply_duration_seconds_count{op="Txn"} 11
etcd_server_is_leader 1
etcd_server_has_leader 1
etcd_debugging_lease_granted_total 5
etcd_mvcc_db_total_size_in_use_in_bytes 500000000
etcd_server_quota_backend_bytes 2000000000
etcd_debugging_mvcc_watcher_total 12
etcd_debugging_mvcc_slow_watcher_total 1
process_cpu_seconds_total 1.5
process_resident_memory_bytes 100000000
`),
			"b:1": looked(t, 12, "etcd_server_proposals_committed_total 3\nprocess_cpu_seconds_total 1\netcd_server_has_leader 1\netcd_server_is_learner 1\n"),
		}}
}

const wantView = `3 members, 2 answer

MEMBER  ENDPOINT  ROLE         REQUESTS/S  COMMITS/S  PENDING  SYNC  APPLY  CPU  MEMORY  IN USE  QUOTA  REVISION  KEYS  WATCHERS  SLOW
one     a:1       leader              260       10.0        -   2ms    2ms  25%  100 MB  500 MB    25%         -     -        12     1
two     b:1       learner             0.0          -        -     -      -    -       -       -      -         -     -         -     -
three   c:1       unreachable           -          -        -     -      -    -       -       -      -         -     -         -     -

REQUEST  PER SECOND  MEAN TIME
Put            10.0       25ms
Range           250          -

PREFIX  REQUESTS/S  BYTES/S  REQUESTS   BYTES
/hot/         10.0   2.0 kB        25  5.0 kB
/cold/         0.0      0 B         0   99 kB

LEASES  GRANTED/S  RENEWED/S  REVOKED/S  EXPIRED/S
              2.0          -          -          -

c:1: connection refused
`

func TestTheViewOfTwoLooks(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	twoLooks(t).view(10, false).write(&out)
	if got := out.String(); got != wantView {
		t.Errorf("got\n%s\nwant\n%s", got, wantView)
	}
	out.Reset()
	twoLooks(t).view(1, false).write(&out)
	if got := out.String(); !strings.Contains(got, "Put") || strings.Contains(got, "Range") || !strings.Contains(got, "/hot/") || strings.Contains(got, "/cold/") {
		t.Errorf("one row of each is wanted, got\n%s", got)
	}
}

func TestTheFirstLookHasNoRates(t *testing.T) {
	t.Parallel()
	w := twoLooks(t)
	w.last = nil
	rows := w.memberRows()
	if rows[1][3] != "-" || rows[1][4] != "-" || rows[1][10] != "500 MB" {
		t.Errorf("got %q", rows[1])
	}
	if got := w.requestRows(10); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestAScreenIsCutToTheTerminal(t *testing.T) {
	t.Parallel()
	text := screen(twoLooks(t).view(10, true), 20, 6)
	if !strings.HasPrefix(text, "\x1b[H") || !strings.HasSuffix(text, "\x1b[J") {
		t.Errorf("got %q", text)
	}
	lines := strings.Split(text, "\r\n")
	if len(lines) != 5 {
		t.Errorf("%d lines on a terminal of 6", len(lines))
	}
	for _, l := range lines {
		if n := utf8.RuneCountInString(escapes.ReplaceAllString(l, "")); n > 20 {
			t.Errorf("%q has %d characters", l, n)
		}
	}
	if got := cutLine("\x1b[1mäbcdef\x1b[0m", 3); got != "\x1b[1mäbc\x1b[0m" {
		t.Errorf("got %q", got)
	}
}

func TestTimesAndRatesAreSpelledShort(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{0.0000012345: "1.2µs", 0.0123456: "12.35ms", 3.14159: "3.14s", 0: "0s"} {
		if got := spellSeconds(seconds); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := spellRate(1234.5, true) + spellRate(99.94, true) + spellRate(5, false); got != "123499.9-" {
		t.Errorf("got %s", got)
	}
}

func TestWhatEndsALiveView(t *testing.T) {
	t.Parallel()
	for _, typed := range []string{"q", "xQ", "\x1b[A\x03", "\x04", ""} {
		readQuit(strings.NewReader(typed)) // returns
	}
}
