package rpc

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// GateMember is what a Gate needs of a member. All methods are called from many goroutines.
type GateMember interface {
	// Accounts returns the users, roles and permissions as applied.
	Accounts() *auth.Table
	// Identify returns who has a token.
	Identify(ctx context.Context, token string) (auth.Subject, error)
	// ReadBarrier is as in KVMember.
	ReadBarrier(ctx context.Context) error
	// FirstLeaseKey finds the first key at or after from that hangs on a lease.
	FirstLeaseKey(id int64, from []byte) (key []byte, ok bool, err error)
}

// Gate decides what clients may do. Each request passes it before anything is proposed or read for it: by the rule of its method
// (auth_rules.go), or by what its handler asks for. A nil Gate lets everyone do everything, and so does any other while
// authentication is off.
type Gate struct {
	member GateMember
	// CertificateUser returns the user that the client's certificate names, "" for none; a token goes before it. nil
	// when certificates name no users. Set before the first request.
	CertificateUser func(ctx context.Context) string
}

// NewGate returns the gate of a member.
func NewGate(m GateMember) *Gate { return &Gate{member: m} }

// tokenIn returns the token that a client sent: plain, or in the header that HTTP clients have for it.
func tokenIn(ctx context.Context) (token string, sent bool) {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC)
	if len(v) == 0 {
		v = metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameSwagger)
	}
	if len(v) == 0 {
		return "", false
	}
	return strings.TrimPrefix(v[0], "Bearer "), true
}

// identify returns who asks. Who shows nothing is nobody, which is no error.
func (g *Gate) identify(ctx context.Context) (auth.Subject, error) {
	if token, sent := tokenIn(ctx); sent {
		return g.member.Identify(ctx, token)
	}
	if g.CertificateUser == nil {
		return auth.Subject{}, nil
	}
	revision := g.member.Accounts().Revision()
	if user := g.CertificateUser(ctx); user != "" {
		return auth.Subject{User: user, Revision: revision}, nil
	}
	return auth.Subject{}, nil
}

// admitted is what the gate has let pass.
type admitted struct {
	g *Gate
	// ctx is that of the request, with the subject for what is proposed.
	ctx     context.Context
	subject auth.Subject
	// checked is the auth revision by which it passed; 0 when nothing was checked.
	checked uint64
}

// admit asks for what a request needs. need may be called more than once; the error is its own or that of the client's token.
func (g *Gate) admit(ctx context.Context, need func(*auth.Judge) error) (admitted, error) {
	a := admitted{g: g, ctx: ctx}
	if g == nil || !g.member.Accounts().Enabled() {
		return a, nil
	}
	err := a.insist(need)
	if errors.Is(err, auth.ErrPermissionDenied) || errors.Is(err, auth.ErrUserNotFound) {
		// It may have been granted elsewhere before the client asked here. Where that cannot be found out, it was not.
		if g.member.ReadBarrier(ctx) == nil {
			err = a.insist(need)
		}
	}
	return a, err
}

// insist asks until the answer is not about permissions that change meanwhile.
func (a *admitted) insist(need func(*auth.Judge) error) error {
	for {
		if err := a.ask(need); !errors.Is(err, auth.ErrOldRevision) || !a.moved() {
			return err
		}
	}
}

// ask finds out who asks, and whether it may.
func (a *admitted) ask(need func(*auth.Judge) error) (err error) {
	if a.subject, err = a.g.identify(a.ctx); err != nil {
		return err
	}
	auditOf(a.ctx).is(a.subject.User)
	j := a.g.member.Accounts().Judge(a.subject)
	if err := need(&j); err != nil {
		return err
	}
	a.ctx, a.checked = member.As(a.ctx, a.subject), j.Revision()
	return nil
}

// moved tells, after something was refused for an old auth revision, whether asking again makes sense: whether the
// client has a newer one by now. It never has with a token that names its own.
func (a *admitted) moved() bool {
	if a.g == nil {
		return false
	}
	s, err := a.g.identify(a.ctx)
	return err != nil || s.Revision > a.subject.Revision
}

// settled tells whether what was admitted still is at the moment of a view that was opened after it. It waits while a
// change is being made.
func (a *admitted) settled(ctx context.Context) (bool, error) {
	if a.g == nil {
		return true, nil
	}
	enabled, revision, err := a.g.member.Accounts().Settled(ctx)
	return !enabled && a.checked == 0 || revision == a.checked, err
}

// leaseKeys is apply.LeaseKeys of what is applied. It is not called without a gate: everything is allowed then.
func (g *Gate) leaseKeys(id int64, from []byte) (key []byte, ok bool, err error) {
	return g.member.FirstLeaseKey(id, from)
}

// Watch says whether the client of ctx may watch a range: it is WatchOptions.Authorize.
func (g *Gate) Watch(ctx context.Context, key, end []byte) error {
	_, err := g.admit(ctx, func(j *auth.Judge) error { return j.Read(key, end) })
	auditOf(ctx).watched(key, end, toStatus(err))
	return err
}

// Lease says what the client of ctx may do: it is Lease.Permit.
func (g *Gate) Lease(ctx context.Context, id int64, access LeaseAccess) (context.Context, error) {
	a, err := g.admit(ctx, func(j *auth.Judge) error {
		err := j.Authenticated()
		switch {
		case err != nil || access == LeaseKnown:
			return err
		case access == LeaseKeysWrite:
			return apply.PermitLeaseWrite(j, id, g.leaseKeys)
		default:
			return apply.PermitLeaseRead(j, id, g.leaseKeys)
		}
	})
	return a.ctx, err
}

// LeaseKeys says whether the client of ctx may read keys: it is Lease.PermitKeys.
func (g *Gate) LeaseKeys(ctx context.Context, keys [][]byte) error {
	_, err := g.admit(ctx, func(j *auth.Judge) error { return apply.PermitKeysRead(j, keys) })
	return err
}

// anyone is the need of nothing.
func anyone(*auth.Judge) error { return nil }

// authenticated is the need to be known.
func authenticated(j *auth.Judge) error { return j.Authenticated() }

// admin is the need to be root.
func admin(j *auth.Judge) error { return j.Admin() }
