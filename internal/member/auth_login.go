package member

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
)

// HashPassword returns the hash of a password, as UserAdd and UserChangePassword go into the log with it. It takes tens of
// milliseconds. The error is bcrypt's for a password above 72 bytes, ErrTooManyRequests or the context's.
func (m *Member) HashPassword(ctx context.Context, password string) (string, error) {
	return m.logins.passwords.hash(ctx, password)
}

// Authenticate checks a password and gives the user a token, which every member knows. It returns the token and the
// revision of the store. The error is auth.ErrNotEnabled, auth.ErrFailed, auth.ErrNoPasswordUser, ErrTooManyRequests, or one
// of ReadBarrier and Propose.
func (m *Member) Authenticate(ctx context.Context, user, password string) (token string, rev int64, err error) {
	if err := m.ReadBarrier(ctx); err != nil {
		return "", 0, err
	}
	for {
		checked, err := m.checkPassword(ctx, user, password)
		if err != nil {
			return "", 0, err
		}
		r, err := m.proposeLogin(ctx, user)
		if err != nil {
			return "", 0, err
		}
		// The password was checked before the token was assigned. If users changed in between, it must be again.
		if m.Accounts().Revision() != checked {
			continue
		}
		var kept etcdserverpb.AuthenticateResponse
		if err := proto.Unmarshal(r.Body, &kept); err != nil {
			return "", 0, fmt.Errorf("read the token: %w", err)
		}
		token, err := m.logins.tokens.sign(user, checked, kept.GetToken())
		return token, r.Revision, err
	}
}

// checkPassword returns by which auth revision the password is right.
func (m *Member) checkPassword(ctx context.Context, user, password string) (revision uint64, err error) {
	hash, revision, err := m.Accounts().Login(user)
	switch {
	case err == nil && hash == nil:
		hash = []byte{} // there is a user, but no password fits
	case err != nil && err != auth.ErrFailed:
		return 0, err
	}
	return revision, m.logins.passwords.check(ctx, user, hash, password)
}

// proposeLogin has the log give the user a token.
func (m *Member) proposeLogin(ctx context.Context, user string) (apply.Result, error) {
	prefix, err := m.logins.tokens.prefix()
	if err != nil {
		return apply.Result{}, err
	}
	raw, err := proto.Marshal(&etcdserverpb.InternalAuthenticateRequest{Name: user, SimpleToken: prefix})
	if err != nil {
		return apply.Result{}, err
	}
	return m.Propose(ctx, apply.CommandAuthenticate, raw)
}
