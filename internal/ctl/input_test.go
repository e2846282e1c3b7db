package ctl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"":                             nil,
		"  get\tk  ":                   {"get", "k"},
		`put "a b" 'c d'`:              {"put", "a b", "c d"},
		`put "tab\t\"quoted\"" ""`:     {"put", "tab\t\"quoted\"", ""},
		`put "unclosed v`:              {"put", "unclosed", "v"},
		`put 'unclosed v`:              {"put", "unclosed", "v"},
		`put k "`:                      {"put", "k"},
		`put k '"v""`:                  {"put", "k", "v"},
		`put k a"b 'c`:                 {"put", "k", `a"b`, "c"},
		`watch k -- sh -c 'echo "$X"'`: {"watch", "k", "--", "sh", "-c", `echo "$X"`},
	} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestComparisons(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]clientv3.Cmp{
		`val("k") = "v"`:       clientv3.Compare(clientv3.Value("k"), "=", "v"),
		`value("a b") != ""`:   clientv3.Compare(clientv3.Value("a b"), "!=", ""),
		`ver("k")  <  "10"`:    clientv3.Compare(clientv3.Version("k"), "<", 10),
		`mod("k\x00") > "-1"`:  clientv3.Compare(clientv3.ModRevision("k\x00"), ">", -1),
		`c("k") = "0" ignored`: clientv3.Compare(clientv3.CreateRevision("k"), "=", 0),
	} {
		got, err := parseCompare(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if got.GetCompare().String() != want.GetCompare().String() {
			t.Errorf("%s: got %v, want %v", line, got.GetCompare(), want.GetCompare())
		}
	}
	for _, line := range []string{"", "x", "val", "val(", `val()`, `val("k")`, `val("k") =`, `val("k") = `, `val("k") = v`, `val("k") = 'v'`,
		`val("k) = "v"`, `ver("k") = "9223372036854775808"`, `lease("k") = "1"`} {
		_, err := parseCompare(line)
		var f *failure
		if !errors.As(err, &f) || f.status != statusInput {
			t.Errorf("%s: got %v", line, err)
		}
	}
}

// TestArgumentsThatAreRefused runs commands that end before anybody is asked, with etcdctl's words and status.
func TestArgumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	const put = "Error: put command needs 1 argument and input from stdin or 2 arguments\n"
	const del = "Error: del command needs one argument as key and an optional argument as range_end\n"
	for name, c := range map[string]struct {
		args   []string
		stdin  string
		status int
		stderr string
	}{
		"a put without a value, of nothing on standard input": {[]string{"put", "k"}, "", statusArguments, put},
		"a put without a key":                          {[]string{"put"}, "v", statusArguments, put},
		"a deletion of three keys":                     {[]string{"del", "a", "b", "c", "--range"}, "", statusArguments, del},
		"a deletion of three keys, in a transaction":   {[]string{"txn"}, "\ndel a b c\n\n\n", statusArguments, del},
		"a deletion of nothing":                        {[]string{"del"}, "", statusArguments, del},
		"a put without a value, in a transaction":      {[]string{"txn"}, "\nput k\n\n\n", statusArguments, put},
		"an operation of nothing but a quote":          {[]string{"txn"}, "\n\"\n\n\n", statusInput, "Error: invalid txn request: \"\n"},
		"a compaction at a revision that is no number": {[]string{"compaction", "x"}, "", statusError, "Error: strconv.ParseInt: parsing \"x\": invalid syntax\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, stderr bytes.Buffer
			status := Run(t.Context(), Process{Program: "etcdctl", Args: append(c.args, "--command-timeout=100ms"), Stdin: strings.NewReader(c.stdin),
				Stdout: &out, Stderr: &stderr, Environ: []string{"ETCDCTL_ENDPOINTS=127.0.0.1:1"}})
			if status != c.status || stderr.String() != c.stderr || out.Len() > 0 {
				t.Errorf("got status %d, %q, and printed %q", status, stderr.String(), out.String())
			}
		})
	}
}

func TestATableWithoutRowsHasNoRuleBelowItsHeadings(t *testing.T) {
	t.Parallel()
	for want, rows := range map[string][][]string{
		"┌───┐\n│ A │\n└───┘\n":               nil,
		"┌───┐\n│ A │\n├───┤\n│ 1 │\n└───┘\n": {{"1"}},
	} {
		var out bytes.Buffer
		err := (&page{Writer: &out}).buffered(func(p *page) { (&table{headings: []string{"A"}, rows: rows}).draw(p) })
		if err != nil || out.String() != want {
			t.Errorf("got\n%s, %v, want\n%s", out.String(), err, want)
		}
	}
}

func TestASnapshotsChecksum(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("page"), 256)
	sum := sha256.Sum256(content)
	whole := append(slices.Clone(content), sum[:]...)
	damaged := slices.Clone(whole)
	damaged[100] ^= 1
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"whole":              {whole, ""},
		"damaged":            {damaged, "was damaged on its way"},
		"without a checksum": {content, "sha256 checksum not found [bytes: 1024]"},
		"cut":                {whole[:len(whole)-1], "sha256 checksum not found"},
		"nothing":            {nil, "sha256 checksum not found"},
	} {
		for _, size := range []int{1, 7, 32, 33, 4096} {
			var out bytes.Buffer
			s := newTrailingSum(&out)
			for part := range slices.Chunk(c.data, size) {
				if _, err := s.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			err := s.verify()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s in parts of %d: got %v", name, size, err)
			}
			if !bytes.Equal(out.Bytes(), c.data) {
				t.Errorf("%s in parts of %d: other bytes came out", name, size)
			}
		}
	}
}

func TestTheVerdictOnPerformance(t *testing.T) {
	t.Parallel()
	good := outcome{done: 9000, slowest: 100 * time.Millisecond, sum: 90, squares: 1, took: time.Minute}
	cases := map[string]struct {
		change func(*outcome)
		status int
		want   string
	}{
		"all well": {func(*outcome) {}, 0,
			"PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.100000s\nPASS: Stddev is 0.003333s\nPASS\n"},
		"too slow": {func(o *outcome) { o.done = 8000 }, 1,
			"FAIL: Throughput too low: 133 writes/s\nPASS: Slowest request took 0.100000s\nPASS: Stddev is 0.000000s\nFAIL\n"},
		"one was slow": {func(o *outcome) { o.slowest = time.Second }, 1,
			"PASS: Throughput is 150 writes/s\nFAIL: Slowest request took too long: 1.000000s\nPASS: Stddev is 0.003333s\nFAIL\n"},
		"uneven": {func(o *outcome) { o.squares = 1000 }, 1,
			"PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.100000s\nFAIL: Stddev too high: 0.333183s\nFAIL\n"},
		"errors": {func(o *outcome) { o.failed, o.firstError = 2, errors.New("lost") }, 1,
			"FAIL: too many errors\nFAIL: ERROR(lost) -> 2\nPASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.100000s\nPASS: Stddev is 0.003333s\nFAIL\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := good
			c.change(&o)
			var out bytes.Buffer
			s := newSession(Process{Stdout: &out, Stderr: &out})
			if err := s.judgePerf(150, o); (err == nil) != (c.status == 0) {
				t.Errorf("got %v", err)
			}
			if out.String() != c.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
			}
		})
	}
}
