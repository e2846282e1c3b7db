package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/clock"
)

// keeper is a keeper of simple tokens without a member: applied says how far it is, and caught up that somebody waits.
type keeper struct {
	*simpleTokens
	clock *clock.Manual
	at    uint64
	waits int
	late  []auth.Event // what happens while somebody waits
	err   error
}

func newKeeper(t testing.TB) *keeper {
	t.Helper()
	k := &keeper{clock: clock.NewManual(time.Unix(1000, 0)), at: 10}
	k.simpleTokens = newSimpleTokens(&Member{cfg: Config{Clock: k.clock, AuthTokenTTL: time.Minute}})
	k.applied = func() uint64 { return k.at }
	k.catchUp = func(context.Context) error {
		k.waits++
		k.happened(k.late)
		return k.err
	}
	return k
}

func (k *keeper) assign(user, token string) {
	k.happened([]auth.Event{{Kind: auth.TokenAssigned, User: user, Token: token}})
}

// want checks who has a token.
func (k *keeper) want(t *testing.T, token, user string) {
	t.Helper()
	s, err := k.subject(t.Context(), token, 7)
	switch {
	case user == "" && !errors.Is(err, ErrInvalidToken):
		t.Errorf("the token %q: %v, %v", token, s, err)
	case user != "" && (err != nil || s != auth.Subject{User: user, Revision: 7}):
		t.Errorf("the token %q: %v, %v; want %s", token, s, err, user)
	}
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

func TestATokenLivesFromUseToUse(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.assign("u", letters+".5")
	k.assign("v", letters+".6")
	for range 5 {
		k.clock.Advance(59 * time.Second)
		k.want(t, letters+".5", "u")
	}
	k.want(t, letters+".6", "")
	k.clock.Advance(time.Minute)
	k.want(t, letters+".5", "")
	k.sweep()
	if len(k.byText)+len(k.byUser) != 0 {
		t.Errorf("left: %v %v", k.byText, k.byUser)
	}
}

func TestTokensEndWithTheirUsersPasswords(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.assign("u", "1")
	k.assign("u", "2")
	k.assign("v", "3")
	k.happened([]auth.Event{{Kind: auth.UserChanged, User: "u"}, {Kind: auth.TokenAssigned, User: "u", Token: "4"}})
	for token, user := range map[string]string{"1": "", "2": "", "3": "v", "4": "u"} {
		k.want(t, token, user)
	}
	k.happened([]auth.Event{{Kind: auth.Disabled}, {Kind: auth.TokenAssigned, User: "v"}})
	for _, token := range []string{"3", "4", ""} {
		k.want(t, token, "")
	}
}

func TestATokenOfAnIndexToComeIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	for _, token := range []string{"", ".", "x.99", letters, letters + ".", letters + ".9", letters + ".-1", letters + ".1x", letters + ".99.1", letters + "." + strings.Repeat("9", 30)} {
		k.want(t, token, "")
	}
	if k.waits != 0 {
		t.Errorf("waited %d times for what is no token, or one that would be known", k.waits)
	}
	k.want(t, letters+".99", "")
	k.late = []auth.Event{{Kind: auth.TokenAssigned, User: "u", Token: letters + ".10"}}
	k.want(t, letters+".10", "u")
	k.err = ErrTimeout
	if _, err := k.subject(t.Context(), letters+".11", 7); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if k.waits != 3 {
		t.Errorf("waited %d times", k.waits)
	}
}

func TestATokenThatIsAssignedWhileItIsLookedForIsKnown(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.applied = func() uint64 { // its entry is, right then
		k.assign("u", letters+".10")
		return 11
	}
	k.want(t, letters+".10", "u")
}

// TestWhatIsAppliedHasAssignedItsTokens: else a token that another member has given out, and whose entry is being applied here, would be taken
// for one that has ended.
func TestWhatIsAppliedHasAssignedItsTokens(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	var applied []uint64
	x.Accounts().Observe(func(events []auth.Event) {
		for _, e := range events {
			if e.Kind == auth.TokenAssigned {
				applied = append(applied, x.logins.simple.applied())
			}
		}
		x.logins.happened(events)
	})
	root := &etcdserverpb.AuthUserAddRequest{Name: auth.Root, HashedPassword: "aGFzaA=="}
	var at uint64
	for _, r := range []struct {
		cmd apply.Command
		msg proto.Message
	}{
		{apply.CommandAuthUserAdd, root},
		{apply.CommandAuthUserGrantRole, &etcdserverpb.AuthUserGrantRoleRequest{User: auth.Root, Role: auth.Root}},
		{apply.CommandAuthEnable, &etcdserverpb.AuthEnableRequest{}},
		{apply.CommandAuthenticate, &etcdserverpb.InternalAuthenticateRequest{Name: auth.Root, SimpleToken: letters}},
	} {
		res := x.do(r.cmd, r.msg)
		if res.Err != nil {
			t.Fatalf("%s: %v", r.cmd, res.Err)
		}
		at = res.Index
	}
	if len(applied) != 1 || applied[0] >= at {
		t.Errorf("before the token of entry %d is known, what is applied goes up to %v", at, applied)
	}
}

func TestTheTokensLongestUnusedMakeRoom(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.max = 64
	for i := range 1000 {
		k.clock.Advance(time.Second / 4)
		k.assign(fmt.Sprint("u", i%7), fmt.Sprint(i))
		if len(k.byText) > 64 {
			t.Fatalf("%d tokens", len(k.byText))
		}
	}
	k.want(t, "999", fmt.Sprint("u", 999%7))
	n := 0
	for _, texts := range k.byUser {
		n += len(texts)
	}
	if n != len(k.byText) {
		t.Errorf("%d tokens of users, %d in all", n, len(k.byText))
	}
}

func FuzzTokens(f *testing.F) {
	for _, token := range []string{"", ".", "a.1", letters + ".5", letters + ".18446744073709551615", letters + ".18446744073709551616", "Bearer x", "a.b.c"} {
		f.Add(token)
	}
	k := newKeeper(f)
	k.assign("u", letters+".5")
	signed, err := newSignedTokens("sign-method=HS256,priv-key="+file(f, []byte("secret")), k.clock.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		s, err := k.subject(context.Background(), token, 7)
		if (err == nil) != (token == letters+".5") {
			t.Errorf("%q: %v, %v", token, s, err)
		}
		if s, err := signed.subject(context.Background(), token, 7); err == nil {
			t.Errorf("%q: %v", token, s)
		}
	})
}

// file writes a file and returns its name.
func file(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair writes the two keys of a pair, as PEM.
func pair(t testing.TB, public, private any) (publicFile, privateFile string) {
	t.Helper()
	pub, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	priv, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})),
		file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv}))
}

// keys has a pair of each kind.
type keys struct{ rsaPublic, rsaPrivate, ecPublic, ecPrivate, edPublic, edPrivate, secret string }

var makeKeys = sync.OnceValues(func() (out [3]any, err error) {
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	return [3]any{r, e, d}, errors.Join(err1, err2, err3)
})

func newKeys(t testing.TB) (k keys) {
	t.Helper()
	made, err := makeKeys()
	if err != nil {
		t.Fatal(err)
	}
	r, e, d := made[0].(*rsa.PrivateKey), made[1].(*ecdsa.PrivateKey), made[2].(ed25519.PrivateKey)
	k.rsaPublic, k.rsaPrivate = pair(t, &r.PublicKey, r)
	k.ecPublic, k.ecPrivate = pair(t, &e.PublicKey, e)
	k.edPublic, k.edPrivate = pair(t, d.Public(), d)
	k.secret = file(t, []byte("0123456789abcdef0123456789abcdef"))
	return k
}

func TestSignedTokensOfEveryMethod(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	c := clock.NewManual(time.Unix(1e9, 0))
	quiet := slog.New(slog.DiscardHandler)
	var all []*signedTokens
	for method, files := range map[string][2]string{
		"RS256": {k.rsaPublic, k.rsaPrivate}, "RS384": {k.rsaPublic, k.rsaPrivate}, "RS512": {k.rsaPublic, k.rsaPrivate},
		"PS256": {k.rsaPublic, k.rsaPrivate}, "PS384": {k.rsaPublic, k.rsaPrivate}, "PS512": {"", k.rsaPrivate},
		"ES256": {k.ecPublic, k.ecPrivate}, "EdDSA": {k.edPublic, k.edPrivate},
		"HS256": {"", k.secret}, "HS384": {"", k.secret}, "HS512": {"", k.secret},
	} {
		s, err := newSignedTokens("pub-key="+files[0]+",priv-key="+files[1]+",sign-method="+method+",ttl=1m,other=x", c.Now, quiet)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		all = append(all, s)
	}
	for _, s := range all {
		token, err := s.sign("u", 12, "")
		if err != nil {
			t.Fatalf("%s: %v", s.method.Alg(), err)
		}
		for _, other := range all {
			got, err := other.subject(t.Context(), token, 99)
			if other != s {
				if !errors.Is(err, ErrInvalidToken) {
					t.Errorf("a token of %s, asked of %s: %v, %v", s.method.Alg(), other.method.Alg(), got, err)
				}
			} else if err != nil || (got != auth.Subject{User: "u", Revision: 12}) {
				t.Errorf("%s: %v, %v", s.method.Alg(), got, err)
			}
		}
		c.Advance(time.Minute + time.Second)
		if _, err := s.subject(t.Context(), token, 99); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: after its time: %v", s.method.Alg(), err)
		}
	}
	// The key is public: nobody may sign with it as with a secret.
	forged, err := newSignedTokens("sign-method=HS256,priv-key="+k.rsaPublic, c.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	token, err := forged.sign("root", 12, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if got, err := s.subject(t.Context(), token, 99); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s takes a forged token: %v, %v", s.method.Alg(), got, err)
		}
	}
}

func TestAPublicKeyAloneVerifies(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	quiet := slog.New(slog.DiscardHandler)
	both, err := newSignedTokens("sign-method=RS256,priv-key="+k.rsaPrivate, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	one, err := newSignedTokens("sign-method=RS256,pub-key="+k.rsaPublic, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	token, err := both.sign("u", 3, "")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := one.subject(t.Context(), token, 0); err != nil || s.User != "u" {
		t.Errorf("got %v, %v", s, err)
	}
	if _, err := one.sign("u", 3, ""); err == nil {
		t.Error("it signs")
	}
}

func TestTokenSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	for says, setting := range map[string]string{
		"another kind":           "opaque",
		"an option without =":    "simple,x",
		"options that are empty": "simple,",
		"an option with two =":   "simple,x=y=z",
		"a pair twice":           "simple,x=y,x=y",
		"another kind with one":  "opaque,x=y",
		"no options":             "jwt",
		"no method":              "jwt,priv-key=" + k.secret,
		"an unknown method":      "jwt,sign-method=XX1,priv-key=" + k.secret,
		"a method without keys":  "jwt,sign-method=none,priv-key=" + k.secret,
		"no keys":                "jwt,sign-method=RS256",
		"no secret":              "jwt,sign-method=HS256",
		"a file that is missing": "jwt,sign-method=HS256,priv-key=" + k.secret + ".none",
		"a key of another kind":  "jwt,sign-method=ES256,priv-key=" + k.rsaPrivate,
		"keys of two pairs":      "jwt,sign-method=RS256,priv-key=" + k.rsaPrivate + ",pub-key=" + k.ecPublic,
		"an option twice":        "jwt,sign-method=RS256,sign-method=RS256,priv-key=" + k.rsaPrivate,
		"no value":               "jwt,sign-method",
		"a ttl that is none":     "jwt,sign-method=HS256,ttl=soon,priv-key=" + k.secret,
		"a ttl of nothing":       "jwt,sign-method=HS256,ttl=0s,priv-key=" + k.secret,
	} {
		m := &Member{cfg: Config{AuthToken: setting, Clock: clock.Real(), Logger: slog.New(slog.DiscardHandler)}}
		if err := m.logins.init(m); !errors.Is(err, ErrAuthOptions) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestOptionsOfSimpleTokensChangeNothing(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"", "simple", "simple,x=y", "simple,x=y,z=", "simple,ttl=soon", ",x=y"} {
		m := &Member{cfg: Config{AuthToken: setting, Clock: clock.Real(), Logger: slog.New(slog.DiscardHandler)}}
		if err := m.logins.init(m); err != nil || m.logins.simple == nil {
			t.Errorf("%q: %v", setting, err)
		}
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(1000, 0))
	p := newPasswords(bcrypt.MinCost, c)
	ctx := t.Context()
	hash := func(password string) []byte {
		b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, two := hash("one"), hash("two")
	check := func(user string, hash []byte, password string, want error) {
		t.Helper()
		if err := p.check(ctx, user, hash, password); !errors.Is(err, want) {
			t.Errorf("%s with %q: %v, want %v", user, password, err, want)
		}
	}
	known := func(user string, hash []byte, password string) bool {
		return p.recall(user, p.mac(user, hash, password))
	}
	for range 2 {
		check("u", one, "one", nil)
		check("u", one, "two", auth.ErrFailed)
		check("u", []byte{}, "", auth.ErrFailed)
		check("nobody", nil, "one", auth.ErrFailed)
	}
	if !known("u", one, "one") || known("u", one, "two") || known("u", two, "one") || known("v", one, "one") || known("nobody", nil, "one") {
		t.Error("what is remembered is not the one password that was right")
	}
	// The hash has changed, and the event has not come yet.
	check("u", two, "one", auth.ErrFailed)
	check("u", two, "two", nil)
	p.happened([]auth.Event{{Kind: auth.UserChanged, User: "u"}})
	if known("u", two, "two") {
		t.Error("remembered after a change of the user")
	}
	check("u", two, "two", nil)
	c.Advance(rememberedFor)
	if known("u", two, "two") {
		t.Error("remembered for too long")
	}
	for _, cost := range []int{0, 3, 32, 99} {
		if got := newPasswords(cost, c).cost; got != bcrypt.DefaultCost {
			t.Errorf("cost %d: %d", cost, got)
		}
	}
	if _, err := p.hash(ctx, strings.Repeat("x", 73)); !errors.Is(err, bcrypt.ErrPasswordTooLong) {
		t.Errorf("a long password: %v", err)
	}
}

// TestTheApplyLoopWaitsForNoHash: it tells of users that change, whatever is being hashed.
func TestTheApplyLoopWaitsForNoHash(t *testing.T) {
	t.Parallel()
	p := newPasswords(bcrypt.MinCost, clock.Real())
	made := 0
	make := p.none
	p.none = func() []byte {
		made++
		if !p.mu.TryLock() {
			t.Error("the lock of what is remembered is held")
		} else {
			p.mu.Unlock()
		}
		return make()
	}
	if err := p.check(t.Context(), "nobody", nil, "x"); err != auth.ErrFailed || made != 1 {
		t.Errorf("%v, %d hashes", err, made)
	}
}

func TestNoMoreHashesAreMadeAtOnceThanThereAreTurns(t *testing.T) {
	t.Parallel()
	p := newPasswords(bcrypt.MinCost, clock.Real())
	for range cap(p.turns) {
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.check(ctx, "u", []byte("x"), "y"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.waiting.Store(hashesWaitingMax)
	if err := p.enter(t.Context()); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("got %v", err)
	}
}
