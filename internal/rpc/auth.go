package rpc

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// AuthMember is what the Auth service needs of a member. All methods are called from many goroutines.
type AuthMember interface {
	// Propose, ReadBarrier and Header are as in KVMember.
	Propose(ctx context.Context, c apply.Command, raw []byte) (apply.Result, error)
	ReadBarrier(ctx context.Context) error
	Header() (clusterID, memberID, term uint64)
	// Store gives the present revision.
	Store() *mvcc.Store
	// Accounts returns the users, roles and permissions as applied.
	Accounts() *auth.Table
	// Authenticate gives a user a token for its password, and returns it with the revision.
	Authenticate(ctx context.Context, user, password string) (token string, rev int64, err error)
	// HashPassword returns what goes into the log for a password.
	HashPassword(ctx context.Context, password string) (string, error)
}

// Auth is the service etcdserverpb.Auth. Passwords go no further than HashPassword and Authenticate.
type Auth struct {
	etcdserverpb.UnimplementedAuthServer
	member AuthMember
	gate   *Gate
}

// NewAuth returns the service on a member. The gate is that of the server, nil when everyone may do everything.
func NewAuth(m AuthMember, g *Gate) *Auth { return &Auth{member: m, gate: g} }

// Register adds the service to a server.
func (s *Auth) Register(r grpc.ServiceRegistrar) { register(r, etcdserverpb.Auth_ServiceDesc, s) }

// nameBytesMax is how long the name of a user or of a role may be: it is a key of etcd's database, where bbolt takes no longer ones. etcd ends at
// the entry that adds it, and at every start; we could make no snapshot any more.
const nameBytesMax = 32 << 10

// checkName refuses a name that no database of etcd's can hold.
func checkName(name string) error {
	if len(name) > nameBytesMax {
		return status.Errorf(codes.InvalidArgument, "ashlar: the name of a user or a role may have %d bytes at most", nameBytesMax)
	}
	return nil
}

// header returns the header of a response at a revision, at the newest one for 0.
func (s *Auth) header(rev int64) *etcdserverpb.ResponseHeader {
	if rev == 0 {
		rev = s.member.Store().Revision()
	}
	clusterID, memberID, term := s.member.Header()
	return &etcdserverpb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, Revision: rev, RaftTerm: term}
}

// change sends a request through the log and returns the header of its response.
func (s *Auth) change(ctx context.Context, c apply.Command, r proto.Message) (*etcdserverpb.ResponseHeader, error) {
	raw, err := proto.Marshal(r)
	if err != nil {
		return nil, toStatus(fmt.Errorf("encode a request: %w", err))
	}
	res, err := s.member.Propose(ctx, c, raw)
	if err != nil {
		return nil, toStatus(err)
	}
	return s.header(res.Revision), nil
}

// AuthEnable implements etcdserverpb.AuthServer.
func (s *Auth) AuthEnable(ctx context.Context, _ *etcdserverpb.AuthEnableRequest) (*etcdserverpb.AuthEnableResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthEnable, &etcdserverpb.AuthEnableRequest{})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthEnableResponse{Header: h}, nil
}

// AuthDisable implements etcdserverpb.AuthServer.
func (s *Auth) AuthDisable(ctx context.Context, _ *etcdserverpb.AuthDisableRequest) (*etcdserverpb.AuthDisableResponse, error) {
	h, err := s.change(ctx, apply.CommandAuthDisable, &etcdserverpb.AuthDisableRequest{})
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.AuthDisableResponse{Header: h}, nil
}

// AuthStatus implements etcdserverpb.AuthServer. It and the other questions wait for what is committed; etcd sends them
// through the log. It answers whoever shows nothing, but as in etcd a token that somebody shows must be good.
func (s *Auth) AuthStatus(ctx context.Context, _ *etcdserverpb.AuthStatusRequest) (*etcdserverpb.AuthStatusResponse, error) {
	if err := s.ask(ctx, anyone); err != nil {
		return nil, err
	}
	enabled, revision := s.member.Accounts().Status()
	return &etcdserverpb.AuthStatusResponse{Header: s.header(0), Enabled: enabled, AuthRevision: revision}, nil
}

// Authenticate implements etcdserverpb.AuthServer.
func (s *Auth) Authenticate(ctx context.Context, r *etcdserverpb.AuthenticateRequest) (*etcdserverpb.AuthenticateResponse, error) {
	token, rev, err := s.member.Authenticate(ctx, r.GetName(), r.GetPassword())
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.AuthenticateResponse{Header: s.header(rev), Token: token}, nil
}
