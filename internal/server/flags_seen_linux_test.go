package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// both shows the same in several ways.
func both(ways ...proof) proof {
	return func(t *testing.T, l *flagLab, name string) {
		for _, way := range ways {
			way(t, l, name)
		}
	}
}

// alone runs a member with these flags until the test ends, and returns a client of it and where its log is.
func alone(t *testing.T, l *flagLab, flags ...string) (c *clientv3.Client, log string) {
	t.Helper()
	x := l.solo(t, Host{}, flags...)
	return x.client, x.log
}

// withRoot makes root, whose password is root.
func withRoot(t *testing.T, c *clientv3.Client) {
	t.Helper()
	if _, err := c.UserAdd(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UserGrantRole(t.Context(), "root", "root"); err != nil {
		t.Fatal(err)
	}
}

// seesBcryptCost reads the cost of a password's hash off a snapshot.
func seesBcryptCost(t *testing.T, l *flagLab, name string) {
	c, _ := alone(t, l, "--"+name+"=4")
	withRoot(t, c)
	r, err := c.SnapshotWithVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Snapshot.Close()
	all, err := io.ReadAll(r.Snapshot)
	if err != nil || !bytes.Contains(all, []byte("$2a$04$")) {
		t.Errorf("no hash of cost 4 in the %d bytes of a snapshot: %v", len(all), err)
	}
}

// seesToken logs in and looks at the token.
func seesToken(t *testing.T, l *flagLab, name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		t.Fatal(err)
	}
	for token, dots := range map[string]int{"simple": 1, "jwt,priv-key=" + file + ",sign-method=ES256,ttl=1m": 2} {
		c, _ := alone(t, l, "--"+name+"="+token, "--bcrypt-cost=4")
		withRoot(t, c)
		if _, err := c.AuthEnable(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := etcdserverpb.NewAuthClient(c.ActiveConnection()).Authenticate(t.Context(), &etcdserverpb.AuthenticateRequest{Name: "root", Password: "root"})
		if err != nil || strings.Count(r.Token, ".") != dots {
			t.Errorf("with %s the token is %q: %v", token, r.GetToken(), err)
		}
	}
}

// seesPreVote looks for the polls before an election, which a member tells its log of.
func seesPreVote(t *testing.T, l *flagLab, name string) {
	logged(t, l.path("a.log"), "became pre-candidate")
	_, log := alone(t, l, "--"+name+"=false")
	logged(t, log, "became candidate")
	if text, err := os.ReadFile(log); err != nil || bytes.Contains(text, []byte("pre-candidate")) {
		t.Errorf("it polls before it stands: %v", err)
	}
}

// seesStrictness adds two members that do not start: the second one is refused at once, or the cluster without a majority is asked.
func seesStrictness(t *testing.T, l *flagLab, name string) {
	for value, refused := range map[string]bool{"true": true, "false": false} {
		c, _ := alone(t, l, "--"+name+"="+value)
		if _, err := c.MemberAdd(t.Context(), []string{"http://127.0.0.1:9"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), flagPatience)
		if !refused {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		}
		_, err := c.MemberAdd(ctx, []string{"http://127.0.0.1:10"})
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) != refused {
			t.Errorf("--%s=%s: %v", name, value, err)
		}
	}
}
