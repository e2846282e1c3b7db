package rpc

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// BenchmarkGate compares requests without authentication with those of root, and of a user with 1,000 roles.
func BenchmarkGate(b *testing.B) {
	g := newGuarded(b, "simple")
	for i := range 1000 {
		role := fmt.Sprintf("role-%d", i)
		_, err := g.auth.RoleAdd(with(g.root), &etcdserverpb.AuthRoleAddRequest{Name: role})
		g.check(err)
		g.grant(g.root, role, authpb.READWRITE, role+"/", role+"0")
		_, err = g.auth.UserGrantRole(with(g.root), &etcdserverpb.AuthUserGrantRoleRequest{User: "u", Role: role})
		g.check(err)
	}
	key := []byte("role-777/x")
	requests := map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error {
			_, err := g.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: key})
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := g.kv.Put(ctx, &etcdserverpb.PutRequest{Key: key, Value: key})
			return err
		},
	}
	for name, request := range requests {
		for _, who := range []string{"off", "root", "u"} {
			b.Run(name+"/"+who, func(b *testing.B) {
				// Everyone sends a token: without authentication it is not looked at.
				ctx := with(map[string]string{"off": g.u, "root": g.root, "u": g.u}[who])
				if who == "off" {
					defer g.without(b)()
				}
				b.SetParallelism(64)
				before := spent()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := request(ctx); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(spent()-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// spent is the processor time of this process, in nanoseconds: a figure that other work on the machine does not change much.
func spent() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// without switches authentication off until what it returns is called.
func (g *guarded) without(b *testing.B) func() {
	_, err := g.auth.AuthDisable(with(g.root), &etcdserverpb.AuthDisableRequest{})
	g.check(err)
	b.ResetTimer()
	return func() {
		b.StopTimer()
		_, err := g.auth.AuthEnable(with(""), &etcdserverpb.AuthEnableRequest{})
		g.check(err)
		g.root, g.u = g.login("root", "rootpw"), g.login("u", "upw")
	}
}
