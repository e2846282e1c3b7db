package rpc

import (
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestPeerURLsAreCheckedAsInEtcd(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ given, want []string }{
		"none":                 {nil, nil},
		"no URL":               {[]string{"bad"}, nil},
		"empty":                {[]string{""}, nil},
		"no scheme":            {[]string{"127.0.0.1:99"}, nil},
		"another scheme":       {[]string{"ftp://127.0.0.1:99"}, nil},
		"a path":               {[]string{"http://127.0.0.1:99/path"}, nil},
		"no port":              {[]string{"http://127.0.0.1"}, nil},
		"a port in letters":    {[]string{"http://127.0.0.1:port"}, nil},
		"one good and one bad": {[]string{"http://127.0.0.1:3", "bad"}, nil},
		"two, sorted":          {[]string{" http://b:2", "http://a:1"}, []string{"http://a:1", "http://b:2"}},
		"a name and TLS":       {[]string{"https://host:1"}, []string{"https://host:1"}},
		"a socket":             {[]string{"unix:///run/m1"}, []string{"unix:///run/m1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := parsePeerURLs(c.given)
			if ok != (c.want != nil) || ok && !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}

func TestChangesOfTheMembershipAnswerWithAllMembers(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	c := etcdserverpb.NewClusterClient(serve(t, s, Options{}, KVOptions{}))
	ctx := t.Context()
	update, err := c.MemberUpdate(ctx, &etcdserverpb.MemberUpdateRequest{ID: s.ID(), PeerURLs: []string{"anything"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(update.Members) != 1 || !slices.Equal(update.Members[0].PeerURLs, []string{"anything"}) ||
		update.Header.GetRevision() != 0 || update.Header.GetMemberId() != s.ID() {
		t.Errorf("got %v", update)
	}
	_, bad := c.MemberAdd(ctx, &etcdserverpb.MemberAddRequest{})
	_, many := c.MemberAdd(ctx, &etcdserverpb.MemberAddRequest{IsLearner: true, PeerURLs: []string{"http://a:1"}})
	_, last := c.MemberRemove(ctx, &etcdserverpb.MemberRemoveRequest{ID: s.ID()})
	_, unknown := c.MemberRemove(ctx, &etcdserverpb.MemberRemoveRequest{ID: 5})
	_, voter := c.MemberPromote(ctx, &etcdserverpb.MemberPromoteRequest{ID: s.ID()})
	for name, x := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"no URLs":                {bad, codes.InvalidArgument, "etcdserver: given member URLs are invalid"},
		"more learners than may": {many, codes.FailedPrecondition, "etcdserver: too many learner members in cluster"},
		"the only voter":         {last, codes.Unknown, "etcdserver: re-configuration failed due to not enough started members"},
		"nobody":                 {unknown, codes.NotFound, "etcdserver: member not found"},
		"promoting a voter":      {voter, codes.FailedPrecondition, "etcdserver: can only promote a learner member"},
	} {
		if st := status.Convert(x.err); st.Code() != x.code || st.Message() != x.text {
			t.Errorf("%s: %v", name, x.err)
		}
	}
	add, err := c.MemberAdd(ctx, &etcdserverpb.MemberAddRequest{PeerURLs: []string{"http://b:2", "http://a:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := add.Member; !slices.Equal(got.PeerURLs, []string{"http://a:1", "http://b:2"}) || len(add.Members) != 2 {
		t.Errorf("got %v", add)
	}
}
