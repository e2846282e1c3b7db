package e2e

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/test/process"
)

// secrets are what clients of a test tell a server, and what it tells nobody.
type secrets struct {
	t    *testing.T
	m    *member
	list map[string]string // what it is, by its text
	said []string          // what the server has answered
}

// password makes one up.
func (s *secrets) password(whose string) string {
	p := fmt.Sprintf("pw-%s-Zq7", whose)
	s.list[p] = "the password of " + whose
	return p
}

// answered notes an error for what it says.
func (s *secrets) answered(err error) {
	if err != nil {
		s.said = append(s.said, err.Error())
	}
}

// check looks for the secrets in a text.
func (s *secrets) check(where, text string) {
	s.t.Helper()
	for secret, what := range s.list {
		if strings.Contains(text, secret) {
			i := strings.Index(text, secret)
			s.t.Errorf("%s holds %s: …%s", where, what, text[max(0, i-200):min(len(text), i+len(secret)+50)])
		}
	}
}

// TestSecretsAreToldNobody runs a member that logs and writes down as much as it can, has it handle secrets in every way, and
// looks for them in its log, its audit log, what it answers, its pages and, for passwords, its files.
func TestSecretsAreToldNobody(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("SKIPPED TestSecretsAreToldNobody: the settings are ours")
	}
	key := "jwt-key-0123456789abcdef0123456789"
	keyFile := filepath.Join(t.TempDir(), "key")
	noError(t, os.WriteFile(keyFile, []byte(key), 0o600))
	for name, tokens := range map[string]string{"simple tokens": "simple", "signed tokens": "jwt,sign-method=HS256,ttl=5m,priv-key=" + keyFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMember(t, "--auth-token", tokens, "--bcrypt-cost", "4", "--log-level", "debug", "--warning-unary-request-duration", "1ns")
			m.extra = append(m.extra, "--audit-log-file", filepath.Join(m.workingDir, "audit"))
			m.extra = append(m.extra, profiling(t)...)
			s := &secrets{t: t, m: m, list: map[string]string{
				key: "the key of the tokens", "VALUE-Zq7": "a value", "$2a$": "a hash", "JDJhJ": "a hash in base64",
			}}
			p := m.start(t)
			s.use(within(t, wholeTest))
			s.pages()
			p.stop(t)
			s.check("the log", p.Log.String())
			s.check("an answer", strings.Join(s.said, "\n"))
			audit, err := os.ReadFile(filepath.Join(m.workingDir, "audit"))
			noError(t, err)
			s.check("the audit log", string(audit))
			if !strings.Contains(string(audit), `Auth/Authenticate","subject":"alice","code":"OK"`) || !strings.Contains(p.Log.String(), "slow request") {
				t.Errorf("this test sees nothing: %s", audit)
			}
			s.files()
		})
	}
}

// profiling is the flag that opens the pages under /debug, where it is built.
func profiling(t *testing.T) []string {
	help, err := exec.CommandContext(t.Context(), program.path, "--help").CombinedOutput()
	noError(t, err)
	_, of, found := strings.Cut(string(help), "--enable-pprof ")
	of, _, _ = strings.Cut(of, "\n  --")
	if !found || strings.Contains(of, "Not built yet") {
		return nil
	}
	return []string{"--enable-pprof"}
}

// use has the server handle secrets: logins that succeed and fail, users, changes of passwords, tokens, requests that are too
// malformed to be read.
func (s *secrets) use(ctx context.Context) {
	s.t.Helper()
	c := s.m.connect(s.t)
	root, alice := s.password("root"), s.password("alice")
	for user, password := range map[string]string{"root": root, "alice": alice} {
		_, err := c.UserAdd(ctx, user, password)
		noError(s.t, err)
	}
	_, err := c.UserGrantRole(ctx, "root", "root")
	noError(s.t, err)
	_, err = c.AuthEnable(ctx)
	noError(s.t, err)
	asRoot := s.m.as(s.t, "root", root)
	for _, user := range []string{"root", "nobody"} {
		_, err = c.Authenticate(ctx, user, s.password("nobody, guessed"))
		s.answered(err)
	}
	changed := s.password("alice, changed")
	_, err = asRoot.UserChangePassword(ctx, "alice", changed)
	noError(s.t, err)
	_, err = asRoot.UserAdd(ctx, "alice", s.password("alice, again"))
	s.answered(err)
	_, err = asRoot.UserAdd(ctx, "long", s.password("long")+strings.Repeat("x", 80))
	s.answered(err)
	login, err := c.Authenticate(ctx, "alice", changed)
	noError(s.t, err)
	s.list[login.Token] = "a token"
	_, err = asRoot.Put(ctx, "k", "VALUE-Zq7")
	noError(s.t, err)
	for _, token := range []string{login.Token, login.Token + "x", "x." + login.Token, "Bearer " + login.Token} {
		with := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
		_, err = c.Put(with, "k", "VALUE-Zq7")
		s.answered(err)
		_, err = c.Txn(with).If(clientv3.Compare(clientv3.Value("k"), "=", "VALUE-Zq7")).Then(clientv3.OpPut("k", "VALUE-Zq7")).Commit()
		s.answered(err)
	}
	s.post(ctx, "/v3/auth/authenticate", `{"name":"alice","password":"`+alice+`"}`, "")
	s.post(ctx, "/v3/auth/user/changepw", `{"name":"alice","password":"`+s.password("JSON")+`"}`, login.Token)
	// An answer to who sent nonsense may quote it; the log may not.
	said := s.said
	s.post(ctx, "/v3/auth/authenticate", `{"name":"alice","password":`+s.password("nonsense")+`}`, "")
	s.post(ctx, "/v3/auth/user/add", `{"name":"alice","password":["`+s.password("a list")+`"]}`, login.Token)
	s.said = said
}

// post sends JSON, with a token in the header for it.
func (s *secrets) post(ctx context.Context, path, body, token string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.m.client+path, strings.NewReader(body))
	noError(s.t, err)
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	s.read(r)
}

// read makes a request and notes the answer.
func (s *secrets) read(r *http.Request) {
	s.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	noError(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	noError(s.t, err)
	s.said = append(s.said, string(b))
}

// pages reads what the server tells whoever asks.
func (s *secrets) pages() {
	s.t.Helper()
	for _, path := range []string{
		"/metrics", "/version", "/health", "/livez?verbose", "/readyz?verbose", "/config/local/log", "/debug/vars", "/debug/requests",
		"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
	} {
		r, err := http.NewRequestWithContext(within(s.t, process.Patience), http.MethodGet, s.m.client+path, http.NoBody)
		noError(s.t, err)
		s.read(r)
	}
}

// files looks for passwords, and the key of the tokens, in all files. Hashes, tokens that are kept and values belong there.
func (s *secrets) files() {
	s.t.Helper()
	for secret, what := range s.list {
		if !strings.HasPrefix(what, "the ") {
			delete(s.list, secret)
		}
	}
	noError(s.t, filepath.WalkDir(s.m.dataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		s.check(filepath.Base(path), string(b))
		return err
	}))
}
