package member

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/auth"
)

var (
	// ErrInvalidToken is returned for a token that no user of this cluster has, or has any more.
	ErrInvalidToken = errors.New("member: invalid auth token")
	// ErrAuthOptions is wrapped by Open's error when Config.AuthToken cannot be understood, or a key of it be read.
	ErrAuthOptions = errors.New("member: invalid auth options")
)

// subjectKey is the key of a context's subject.
type subjectKey struct{}

// As returns a context for what s asks for: what is proposed with it carries s in its header, and is checked again
// with it when it is applied.
func As(ctx context.Context, s auth.Subject) context.Context {
	if s == (auth.Subject{}) {
		return ctx
	}
	return context.WithValue(ctx, subjectKey{}, s)
}

// Subject returns who asks with a context, nobody when As was not called.
func Subject(ctx context.Context) auth.Subject {
	s, _ := ctx.Value(subjectKey{}).(auth.Subject)
	return s
}

// Accounts returns the present generation's users, roles and permissions.
func (m *Member) Accounts() *auth.Table { return m.gen.Load().accounts }

// itself is the subject of what this member must do for the cluster whoever may do it: root may, if authentication is on.
func (m *Member) itself() auth.Subject {
	return auth.Subject{User: auth.Root, Revision: m.Accounts().Revision()}
}

// FirstLeaseKey returns the first key at or after from that hangs on a lease; ok is false when there is none.
func (m *Member) FirstLeaseKey(id int64, from []byte) (key []byte, ok bool, err error) {
	err = m.held(func(g *generation) (err error) {
		key, ok, err = g.leases.First(g.db, id, from)
		return err
	})
	return key, ok, err
}

// tokenKeeper tells who has a token, and makes them.
type tokenKeeper interface {
	// subject returns who has a token. revision is the auth revision from before the token was looked at.
	subject(ctx context.Context, token string, revision uint64) (auth.Subject, error)
	// prefix returns what goes into the log with a login, "" when the token is not kept but signed.
	prefix() (string, error)
	// sign returns a signed token, or kept when tokens are kept.
	sign(user string, revision uint64, kept string) (string, error)
}

// logins is all that this member knows to tell who asks.
type logins struct {
	m         *Member
	tokens    tokenKeeper
	simple    *simpleTokens // the tokens when they are kept, else nil
	passwords *passwords
}

// init makes what Config.AuthToken says: "simple", or "jwt" with options.
func (l *logins) init(m *Member) error {
	l.m = m
	l.passwords = newPasswords(m.cfg.BcryptCost, m.cfg.Clock)
	kind, options, more := strings.Cut(m.cfg.AuthToken, ",")
	switch kind {
	case "", "simple":
		if more { // as in etcd options that are well-formed change nothing
			if _, err := parseTokenOptions(options, m.cfg.Logger); err != nil {
				return err
			}
			m.cfg.Logger.Warn("simple tokens have no options", "auth-token", m.cfg.AuthToken)
		}
		l.simple = newSimpleTokens(m)
		l.tokens = l.simple
		return nil
	case "jwt":
		signed, err := newSignedTokens(options, m.cfg.Clock.Now, m.cfg.Logger)
		l.tokens = signed
		return err
	}
	return fmt.Errorf("%w: tokens are simple or jwt with options, not %q", ErrAuthOptions, m.cfg.AuthToken)
}

// happened is given what tokens hang on by the apply loop.
func (l *logins) happened(events []auth.Event) {
	l.passwords.happened(events)
	if l.simple != nil {
		l.simple.happened(events)
	}
}

// reload is told that the whole state was replaced: who changed a password meanwhile is not known.
func (l *logins) reload() { l.happened([]auth.Event{{Kind: auth.Disabled}}) }

// Identify returns who has a token. It is nobody while authentication is off. The error is ErrInvalidToken, or one of
// ReadBarrier: a token of which this member has not heard yet is looked for when it has applied all that is committed.
func (m *Member) Identify(ctx context.Context, token string) (auth.Subject, error) {
	// The revision first: if the token ends meanwhile, it is an old one.
	enabled, revision := m.Accounts().Status()
	if !enabled {
		return auth.Subject{}, nil
	}
	return m.logins.tokens.subject(ctx, token, revision)
}
