package server

import (
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
)

func TestAMemberFindsItselfInTheClusterItJoins(t *testing.T) {
	t.Parallel()
	others := []cluster.Member{
		{ID: 1, Name: "a", PeerURLs: []string{"http://a:1", "http://a:2"}},
		{ID: 2, PeerURLs: []string{"http://b:1"}},
	}
	cases := map[string]struct {
		initial string
		want    cluster.ID
		refused string
	}{
		"by its addresses, whatever the others call it": {"a=http://a:1,a=http://a:2,b=http://b:1", 2, ""},
		"with the addresses in another order":           {"a=http://a:2,b=http://b:1,a=http://a:1", 2, ""},
		"a member too few":                              {"b=http://b:1", 0, "member count is unequal"},
		"a member too many":                             {"a=http://a:1,a=http://a:2,b=http://b:1,c=http://c:1", 0, "member count is unequal"},
		"another address":                               {"a=http://a:1,a=http://a:2,b=http://b:9", 0, "unmatched member while checking PeerURLs"},
	}
	for name, c := range cases {
		cfg := config.Default("ashlar")
		cfg.InitialCluster = c.initial
		initial, err := cfg.InitialMembers()
		if err != nil {
			t.Fatal(err)
		}
		j, remotes, err := joining("b", initial, 77, others)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil || j.Member != c.want || j.Cluster != 77 || len(remotes) != 2 {
			t.Errorf("%s: got %v, %v, %v", name, j, remotes, err)
		}
	}
}
