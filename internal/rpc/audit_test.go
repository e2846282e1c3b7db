package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ashlar-kv/ashlar/internal/audit"
	"github.com/ashlar-kv/ashlar/internal/clock"
)

// auditFile is an audit log, and what is in it.
type auditFile struct {
	t    testing.TB
	path string
	*Auditing
}

func newAuditFile(t testing.TB, reads bool) *auditFile {
	t.Helper()
	f := &auditFile{t: t, path: filepath.Join(t.TempDir(), "audit")}
	log, err := audit.Open(audit.Options{Path: f.path, MaxBytes: 1 << 30, Clock: clock.Real(), Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	f.Auditing = &Auditing{Log: log, Reads: reads, Clock: clock.NewManual(time.Unix(0, 0))}
	return f
}

// lines closes the log and returns its lines without time, duration and where they come from.
func (f *auditFile) lines() (out []string) {
	f.t.Helper()
	if err := f.Log.Close(); err != nil {
		f.t.Fatal(err)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	for text := range strings.Lines(string(b)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			f.t.Fatalf("%s: %v", text, err)
		}
		if m["time"] == nil || m["took_us"] == nil {
			f.t.Errorf("no times: %s", text)
		}
		for _, name := range []string{"time", "took_us", "from", "via"} {
			delete(m, name)
		}
		line, err := json.Marshal(m) // in the order of the names
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, string(line))
	}
	return out
}

// speak makes a request of every kind of outcome.
func speak(g *guarded) {
	u := with(g.u)
	_, _ = g.kv.Put(u, &etcdserverpb.PutRequest{Key: []byte("w/1"), Value: []byte("VALUE"), Lease: 7})
	_, _ = g.kv.Put(u, &etcdserverpb.PutRequest{Key: []byte("r/1"), Value: []byte("VALUE")})
	_, _ = g.kv.Range(u, &etcdserverpb.RangeRequest{Key: []byte("r/"), RangeEnd: []byte("r0")})
	_, _ = g.kv.Range(u, &etcdserverpb.RangeRequest{Key: []byte("sec")})
	_, _ = g.kv.Range(with("TOKEN.1"), &etcdserverpb.RangeRequest{Key: []byte("sec")})
	_, _ = g.auth.Authenticate(with(""), &etcdserverpb.AuthenticateRequest{Name: "u", Password: "PASSWORD"})
	_, _ = g.auth.UserList(u, &etcdserverpb.AuthUserListRequest{})
	_, _ = g.kv.Txn(u, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{{Key: []byte("b/1"), Target: etcdserverpb.Compare_VALUE, TargetUnion: &etcdserverpb.Compare_Value{Value: []byte("VALUE")}}},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: &etcdserverpb.TxnRequest{
			Failure: []*etcdserverpb.RequestOp{deleteOp([]byte("w/2"))}}}}},
	})
	_, _ = g.kv.Txn(u, &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{rangeOp(&etcdserverpb.RangeRequest{Key: []byte("b/1")})}})
}

func TestRequestsAreWrittenDown(t *testing.T) {
	t.Parallel()
	f := newAuditFile(t, true)
	g := newAudited(t, "simple", f.Auditing)
	speak(g)
	lines := f.lines()
	want := []string{
		`{"code":"OK","keys":[{"key":"w/1","lease":"7","op":"put"}],"method":"/etcdserverpb.KV/Put","user":"u"}`,
		`{"code":"PermissionDenied","keys":[{"key":"r/1","op":"put"}],"method":"/etcdserverpb.KV/Put","user":"u"}`,
		`{"code":"OK","keys":[{"end":"r0","key":"r/","op":"range"}],"method":"/etcdserverpb.KV/Range","user":"u"}`,
		`{"code":"PermissionDenied","keys":[{"key":"sec","op":"range"}],"method":"/etcdserverpb.KV/Range","user":"u"}`,
		`{"code":"Unauthenticated","keys":[{"key":"sec","op":"range"}],"method":"/etcdserverpb.KV/Range"}`,
		`{"code":"InvalidArgument","method":"/etcdserverpb.Auth/Authenticate","subject":"u"}`,
		`{"code":"PermissionDenied","method":"/etcdserverpb.Auth/UserList","user":"u"}`,
		`{"code":"OK","keys":[{"key":"b/1","op":"compare"},{"key":"w/2","op":"delete"}],"method":"/etcdserverpb.KV/Txn","user":"u"}`,
		`{"code":"OK","keys":[{"key":"b/1","op":"range"}],"method":"/etcdserverpb.KV/Txn","user":"u"}`,
	}
	if len(lines) < len(want) {
		t.Fatalf("got %q", lines)
	}
	for i, line := range lines[len(lines)-len(want):] {
		if line != want[i] {
			t.Errorf("line %d: %s, want %s", i, line, want[i])
		}
	}
	// What made the users, before authentication was on.
	if !strings.Contains(lines[0], `"method":"/etcdserverpb.Auth/UserAdd"`) || !strings.Contains(lines[0], `"subject":`) {
		t.Errorf("the first line: %s", lines[0])
	}
}

func TestWithoutReadsOnlyChangesAndRefusalsAreWrittenDown(t *testing.T) {
	t.Parallel()
	f := newAuditFile(t, false)
	g := newAudited(t, "simple", f.Auditing)
	speak(g)
	all := strings.Join(f.lines(), "\n")
	for part, want := range map[string]int{
		`KV/Range"`: 2, `"PermissionDenied","keys":[{"key":"sec"`: 1, `"Unauthenticated"`: 1, `"op":"range"`: 2, `UserList`: 1,
		`"w/1","lease":"7"`: 2, // one of them when it was made
	} {
		if n := strings.Count(all, part); n != want {
			t.Errorf("%s stands there %d times, want %d:\n%s", part, n, want, all)
		}
	}
}

// TestStreamsAreWrittenDown looks when the server has stopped: until then a stream may be about to end.
func TestStreamsAreWrittenDown(t *testing.T) {
	t.Parallel()
	f := newAuditFile(t, true)
	t.Run("until the server stops", func(t *testing.T) { stream(newAudited(t, "simple", f.Auditing)) })
	all := strings.Join(f.lines(), "\n")
	for _, line := range []string{
		`{"code":"OK","keys":[{"key":"r/1","op":"watch"}],"method":"/etcdserverpb.Watch/Watch","user":"u"}`,
		`{"code":"PermissionDenied","keys":[{"key":"sec","op":"watch"}],"method":"/etcdserverpb.Watch/Watch","user":"u"}`,
		`{"code":"PermissionDenied","lease":"9","method":"/etcdserverpb.Lease/LeaseKeepAlive","user":"u"}`,
		`{"code":"OK","keys":[{"end":"r0","key":"r/","op":"range"}],"method":"/etcdserverpb.KV/RangeStream","user":"u"}`,
		`{"code":"PermissionDenied","method":"/etcdserverpb.Maintenance/Snapshot","user":"u"}`,
	} {
		if !strings.Contains(all, line) {
			t.Errorf("no line %s in\n%s", line, all)
		}
	}
}

// stream opens a stream of every kind of outcome.
func stream(g *guarded) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(with(g.u))
	defer cancel()
	w, err := g.watch.Watch(ctx)
	g.check(err)
	for _, key := range []string{"r/1", "sec"} {
		g.check(w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(key)}}}))
		_, err = w.Recv()
		g.check(err)
	}
	k, err := g.lease.LeaseKeepAlive(with(g.u))
	g.check(err)
	g.check(k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: 9}))
	if _, err = k.Recv(); err == nil {
		g.t.Error("a lease of other keys is kept alive")
	}
	r, err := g.kv.RangeStream(with(g.u), &etcdserverpb.RangeRequest{Key: []byte("r/"), RangeEnd: []byte("r0")})
	g.check(err)
	_, err = r.Recv()
	g.check(err)
	s, err := g.maintenance.Snapshot(with(g.u), &etcdserverpb.SnapshotRequest{})
	g.check(err)
	if _, err := s.Recv(); err == nil {
		g.t.Error("a snapshot")
	}
}

func TestAClientOfTheGatewayIsNamed(t *testing.T) {
	t.Parallel()
	f := newAuditFile(t, true)
	l, conn, err := Local()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dialed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.Close()
		}
		dialed <- err
	}()
	conn.Connect()
	if err := <-dialed; err != nil {
		t.Fatal(err)
	}
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: l.Addr()})
	for said, want := range map[string]string{"6.6.6.6, 10.0.0.1": "10.0.0.1", "10.0.0.2": "10.0.0.2", "": ""} {
		if _, a := f.begin(metadata.NewIncomingContext(ctx, metadata.Pairs("x-forwarded-for", said)), "/m"); a.record.From != want || a.record.Via != "gateway" {
			t.Errorf("%q: %+v", said, a.record)
		}
	}
}

// told are the fields of requests that the audit log may tell.
var told = map[protoreflect.Name]bool{
	"key": true, "range_end": true, "name": true, "user": true, "role": true, "peerURLs": true, "version": true,
}

// marked fills all texts of a message with their own field's name, and numbers with 5.
func marked(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		var one func() protoreflect.Value
		switch fd.Kind() {
		case protoreflect.StringKind:
			one = func() protoreflect.Value { return protoreflect.ValueOfString("mark-" + string(fd.Name()) + "-") }
		case protoreflect.BytesKind:
			one = func() protoreflect.Value { return protoreflect.ValueOfBytes([]byte("mark-" + string(fd.Name()) + "-")) }
		case protoreflect.MessageKind:
			if depth == 0 {
				continue
			}
			one = func() protoreflect.Value {
				v := m.NewField(fd)
				if fd.IsList() {
					v = v.List().NewElement()
				}
				marked(v.Message(), depth-1)
				return v
			}
		default:
			continue
		}
		if fd.IsList() {
			l := m.Mutable(fd).List()
			l.Append(one())
			continue
		}
		m.Set(fd, one())
	}
}

// TestNoSecretIsWrittenDownWhateverTheMethod fills in every field of every request that there is.
func TestNoSecretIsWrittenDownWhateverTheMethod(t *testing.T) {
	t.Parallel()
	texts := 0
	for method := range rules {
		service, name, _ := strings.Cut(method[1:], "/")
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			t.Fatal(err)
		}
		input := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name)).Input()
		kind, err := protoregistry.GlobalTypes.FindMessageByName(input.FullName())
		if err != nil {
			t.Fatal(err)
		}
		// Which of several operations a message holds is the last one; a transaction is tried with each of them.
		for _, op := range append([]*etcdserverpb.RequestOp{nil}, opsMarked()...) {
			m := kind.New()
			marked(m, 6)
			if txn, ok := m.Interface().(*etcdserverpb.TxnRequest); ok && op != nil {
				txn.Success, txn.Failure = append(txn.Success, op), append(txn.Failure, op)
			}
			for _, text := range writtenOf(t, method, m.Interface()) {
				texts++
				if !told[protoreflect.Name(text)] {
					t.Errorf("%s: the field %s is written down", method, text)
				}
			}
		}
	}
	if texts < 50 {
		t.Errorf("only %d fields were found: this test does not see them", texts)
	}
}

func opsMarked() (out []*etcdserverpb.RequestOp) {
	p, d := new(etcdserverpb.PutRequest), new(etcdserverpb.DeleteRangeRequest)
	marked(p.ProtoReflect(), 1)
	marked(d.ProtoReflect(), 1)
	return append(out, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: p}},
		&etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}})
}

// writtenOf returns the names of the fields whose marks are in the line of a request.
func writtenOf(t *testing.T, method string, m proto.Message) (out []string) {
	t.Helper()
	var req any = m
	for kv := range methods {
		if method == fmt.Sprintf("/%s/%s", etcdserverpb.KV_ServiceDesc.ServiceName, kv) {
			raw, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if req, err = NewRequest(kv, raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := newAuditFile(t, true)
	_, _ = f.unary(t.Context(), req, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return nil, nil })
	lines := f.lines()
	if len(lines) != 1 {
		t.Fatalf("%s: %q", method, lines)
	}
	for _, part := range strings.Split(lines[0], "mark-")[1:] {
		name, _, _ := strings.Cut(part, "-")
		out = append(out, name)
	}
	return out
}
