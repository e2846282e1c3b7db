package apply

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func keepValue(key string) *etcdserverpb.PutRequest {
	return &etcdserverpb.PutRequest{Key: []byte(key), IgnoreValue: true}
}

func leased(p *etcdserverpb.PutRequest) *etcdserverpb.PutRequest {
	p.Lease = 77
	return p
}

// The answers are those that etcd 3.7.1 gave to these very requests. The store holds a, put four times (revisions 2 to
// 5, value 4), and was never compacted.
func TestWhatATransactionIsRefusedFor(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		txn  *etcdserverpb.TxnRequest
		want error
	}{
		"a lease that does not exist":                      {then(leased(put("q", ""))), lease.ErrNotFound},
		"the lease comes before the key that is not there": {then(leased(keepValue("none"))), lease.ErrNotFound},
		"keeping the value of no key":                      {then(keepValue("none")), ErrKeyNotFound},
		"keeping the lease of no key": {
			then(&etcdserverpb.PutRequest{Key: []byte("none"), IgnoreLease: true}), ErrKeyNotFound},
		"keeping the value of a key that only this transaction puts": {
			then(put("q", "1"), keepValue("q")), ErrKeyNotFound},
		"a future revision": {then(del("zz", ""), get("a", 99)), mvcc.ErrFutureRevision},
		"the revision that the transaction itself makes": {then(put("q", "1"), get("a", 6)), mvcc.ErrFutureRevision},
		"a negative revision":                            {then(del("zz", ""), get("a", -2)), mvcc.ErrCompacted},
		"of two reasons the first, here the lease":       {then(leased(put("q", "")), get("a", 99)), lease.ErrNotFound},
		"of two reasons the first, here the revision":    {then(get("a", 99), leased(put("q", ""))), mvcc.ErrFutureRevision},
		"a reason in a nested one":                       {then(put("q", "1"), then(leased(put("r", "")))), lease.ErrNotFound},
		"a reason behind a nested one":                   {then(then(put("q", "1")), leased(put("r", ""))), lease.ErrNotFound},
		"deleting from a key on, then keeping a value": {
			then(del("Z", "\x00"), keepValue("a")), ErrKeyNotFound},
		"deleting from the very key on, then keeping its value": {
			then(then(del("a", "\x00")), keepValue("a")), ErrKeyNotFound},
		"deleting from two keys on, the later one first": {
			then(del("b", "\x00"), del("Z", "\x00"), keepValue("a")), ErrKeyNotFound},
		"deleting from two keys on, the earlier one first": {
			then(del("Z", "\x00"), del("b", "\x00"), keepValue("a")), ErrKeyNotFound},
		"a put without a key": {then(put("", "1")), ErrEmptyKey},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for i := 1; i <= 4; i++ {
				l.put("a", fmt.Sprint(i))
			}
			r := l.do(CommandTxn, c.txn)
			if !errors.Is(r.Err, c.want) {
				t.Errorf("got %v, want %v", r.Err, c.want)
			}
			if r.Body != nil || l.store.Revision() != 5 || l.text() != "a=4 " {
				t.Errorf("it left a trace: %x, revision %d, %s", r.Body, l.store.Revision(), l.text())
			}
		})
	}
}

func TestWhatATransactionAnswers(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		txn  *etcdserverpb.TxnRequest
		want string // TxnResponse
		rev  int64
	}{
		"nothing": {then(), `succeeded:true`, 5},
		"an empty operation": {
			&etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{{}}}, `succeeded:true responses:{}`, 5},
		"reads before and after the first write carry different revisions": {
			then(get("none", 0), put("q", "1"), get("none", 0)),
			`succeeded:true responses:{response_range:{header:{revision:5}}} responses:{response_put:{header:{revision:6}}}
			responses:{response_range:{header:{revision:6}}}`, 6},
		"a read at the revision before does not see the write": {
			then(put("q", "1"), get("q", 5), get("q", 0)),
			`succeeded:true responses:{response_put:{header:{revision:6}}} responses:{response_range:{header:{revision:6}}}
			responses:{response_range:{header:{revision:6} count:1
				kvs:{key:"q" create_revision:6 mod_revision:6 version:1 value:"1"}}}`, 6},
		"a write that changes nothing takes no revision": {
			then(del("none", "")), `succeeded:true responses:{response_delete_range:{header:{revision:5}}}`, 5},
		"a nested one has an empty header": {
			then(then()), `succeeded:true responses:{response_txn:{header:{} succeeded:true}}`, 5},
		"a branch not taken is not checked": {
			&etcdserverpb.TxnRequest{Failure: []*etcdserverpb.RequestOp{request(leased(put("q", "")))}}, `succeeded:true`, 5},
		"the value and the lease kept": {
			then(&etcdserverpb.PutRequest{Key: []byte("a"), IgnoreValue: true, IgnoreLease: true, PrevKv: true}, get("a", 0)),
			`succeeded:true responses:{response_put:{header:{revision:6}
				prev_kv:{key:"a" create_revision:2 mod_revision:5 version:4 value:"4"}}}
			responses:{response_range:{header:{revision:6} count:1
				kvs:{key:"a" create_revision:2 mod_revision:6 version:5 value:"4"}}}`, 6},
		"a delete, then a put of the same key": {
			then(del("a", "\x00"), &etcdserverpb.PutRequest{Key: []byte("a"), PrevKv: true}, get("a", 0)),
			`succeeded:true responses:{response_delete_range:{header:{revision:6} deleted:1}}
			responses:{response_put:{header:{revision:6}}}
			responses:{response_range:{header:{revision:6} count:1 kvs:{key:"a" create_revision:6 mod_revision:6 version:1}}}`, 6},
		"conditions of nested ones are decided before anything is written": {
			then(put("n", "1"), &etcdserverpb.TxnRequest{
				Compare: []*etcdserverpb.Compare{{Key: []byte("n"), Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_GREATER}},
				Failure: []*etcdserverpb.RequestOp{request(del("n", ""))},
			}),
			`succeeded:true responses:{response_put:{header:{revision:6}}} responses:{response_txn:{header:{}
				responses:{response_delete_range:{header:{revision:6} deleted:1}}}}`, 6},
		"deleted keys in their order": {
			then(put("b", "1"), &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, PrevKv: true}),
			`succeeded:true responses:{response_put:{header:{revision:6}}} responses:{response_delete_range:{header:{revision:6}
				deleted:2 prev_kvs:{key:"a" create_revision:2 mod_revision:5 version:4 value:"4"}
				prev_kvs:{key:"b" create_revision:6 mod_revision:6 version:1 value:"1"}}}`, 6},
		"the one negative revision that can be read as long as nothing is compacted": {
			then(get("a", -1)), `succeeded:true responses:{response_range:{header:{revision:5} count:1
				kvs:{key:"a" create_revision:2 mod_revision:5 version:4 value:"4"}}}`, 5},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for i := 1; i <= 4; i++ {
				l.put("a", fmt.Sprint(i))
			}
			if parsed := parseTxn(t, c.txn); parsed.ReadOnly() {
				v, err := l.store.View(0)
				l.check(err)
				body, rev, err := ReadTxn(t.Context(), v, parsed, new(Counts), nil)
				l.check(errors.Join(err, v.Close()))
				compareTxn(t, Result{Body: body, Revision: rev}, c.want, c.rev)
			}
			compareTxn(t, l.do(CommandTxn, c.txn), c.want, c.rev)
		})
	}
}

func parseTxn(t *testing.T, m *etcdserverpb.TxnRequest) *Txn {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ParseTxn(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &x
}

func compareTxn(t *testing.T, r Result, want string, rev int64) {
	t.Helper()
	got, expected := &etcdserverpb.TxnResponse{}, &etcdserverpb.TxnResponse{}
	if err := prototext.Unmarshal([]byte(want), expected); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Err, proto.Unmarshal(r.Body, got)); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, expected) {
		t.Errorf("got  %v\nwant %v", got, expected)
	}
	if r.Revision != rev {
		t.Errorf("the revision is %d, not %d", r.Revision, rev)
	}
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(got)
	if err != nil || string(canonical) != string(r.Body) {
		t.Errorf("encoded as %x, not as %x (%v)", r.Body, canonical, err)
	}
}

// Keys a (revisions 2 and 4, value m) and b (revision 3, value x), as etcd 3.7.1 decides.
func TestConditions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.put("a", "z")
	l.put("b", "x")
	l.put("a", "m")
	type (
		compare = etcdserverpb.Compare
		mod     = etcdserverpb.Compare_ModRevision
		version = etcdserverpb.Compare_Version
		value   = etcdserverpb.Compare_Value
	)
	const (
		equal, greater, less, not = etcdserverpb.Compare_EQUAL, etcdserverpb.Compare_GREATER, etcdserverpb.Compare_LESS, etcdserverpb.Compare_NOT_EQUAL
		onVersion, onCreate       = etcdserverpb.Compare_VERSION, etcdserverpb.Compare_CREATE
		onMod, onValue, onLease   = etcdserverpb.Compare_MOD, etcdserverpb.Compare_VALUE, etcdserverpb.Compare_LEASE
	)
	a, b, none, from := []byte("a"), []byte("b"), []byte("none"), []byte{0}
	cases := map[string]struct {
		c    *compare
		want bool
	}{
		"the version is 2":                      {&compare{Key: a, Target: onVersion, TargetUnion: &version{Version: 2}}, true},
		"the mod revision is above 3":           {&compare{Key: a, Target: onMod, Result: greater, TargetUnion: &mod{ModRevision: 3}}, true},
		"the value is below n":                  {&compare{Key: a, Target: onValue, Result: less, TargetUnion: &value{Value: []byte("n")}}, true},
		"no key has version 0":                  {&compare{Key: none, Target: onVersion}, true},
		"no key has a create revision below 1":  {&compare{Key: none, Target: onCreate, Result: less, TargetUnion: &etcdserverpb.Compare_CreateRevision{CreateRevision: 1}}, true},
		"no key has no value, not an empty one": {&compare{Key: none, Target: onValue}, false},
		"no key has no other value either":      {&compare{Key: none, Target: onValue, Result: not, TargetUnion: &value{Value: a}}, false},
		"what was sent is for another target":   {&compare{Key: a, Target: onVersion, TargetUnion: &mod{ModRevision: 2}}, false},
		"an unknown result, on a key":           {&compare{Key: a, Result: 9}, true},
		"an unknown result, on no key's value":  {&compare{Key: none, Result: 9, Target: onValue}, false},
		"an unknown target is equal":            {&compare{Key: a, Target: 9}, true},
		"an unknown target is not different":    {&compare{Key: a, Target: 9, Result: not}, false},
		"all keys were changed after 2":         {&compare{Key: a, RangeEnd: from, Target: onMod, Result: greater, TargetUnion: &mod{ModRevision: 2}}, true},
		"not all keys were changed after 3":     {&compare{Key: a, RangeEnd: from, Target: onMod, Result: greater, TargetUnion: &mod{ModRevision: 3}}, false},
		"only the first key of the range":       {&compare{Key: a, RangeEnd: b, Target: onMod, Result: greater, TargetUnion: &mod{ModRevision: 3}}, true},
		"a range without keys counts as zeros":  {&compare{Key: none, RangeEnd: from, Target: onLease}, true},
		"a range without keys has no value":     {&compare{Key: none, RangeEnd: from, Target: onValue}, false},
		"a range that ends before it begins":    {&compare{Key: b, RangeEnd: a, Target: onVersion}, true},
		"nothing to compare with is equal to 0": {&compare{Key: a, Target: onLease, Result: equal}, true},
	}
	for name, c := range cases {
		r := l.do(CommandTxn, &etcdserverpb.TxnRequest{Compare: []*compare{c.c}})
		if got := len(r.Body) > 0; got != c.want || r.Err != nil {
			t.Errorf("%s: %v, %v", name, got, r.Err)
		}
	}
}

func TestWhichTransactionsOnlyRead(t *testing.T) {
	t.Parallel()
	local := &etcdserverpb.RangeRequest{Key: []byte("a"), Serializable: true}
	cases := map[string]struct {
		txn                    *etcdserverpb.TxnRequest
		readOnly, serializable bool
	}{
		"nothing":                       {then(), true, false},
		"a range":                       {then(get("a", 0)), true, false},
		"a serializable range":          {then(local), true, true},
		"one of two is serializable":    {then(local, get("a", 0)), true, false},
		"a nested serializable range":   {then(then(local)), true, true},
		"a put":                         {then(local, put("a", "")), false, false},
		"a delete in the other branch":  {&etcdserverpb.TxnRequest{Failure: then(del("a", "")).Success}, false, false},
		"a put in a nested transaction": {then(then(put("a", ""))), false, false},
	}
	for name, c := range cases {
		x := parseTxn(t, c.txn)
		if x.ReadOnly() != c.readOnly || x.Serializable() != c.serializable {
			t.Errorf("%s: read-only %v, serializable %v", name, x.ReadOnly(), x.Serializable())
		}
	}
}
