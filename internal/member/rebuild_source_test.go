package member

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// toldChains are what other members tell of their chained hashes, by their addresses; who is not there is down.
type toldChains map[string]toldChain

// toldChain is one that remembers the points after first.
type toldChain struct {
	first, newest, hash uint64
}

func (c toldChains) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := c[r.URL.Host]
	if !ok {
		return nil, errors.New("connection refused")
	}
	index, err := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	if err != nil {
		return nil, err
	}
	told := peer.Chain{Version: apply.ChainVersion}
	if index = min(index, x.newest); index >= x.first {
		told.Point = &peer.Point{Index: index, Hash: x.hash}
	}
	b, err := json.Marshal(told)
	if err != nil {
		return nil, err
	}
	answer := make(scripted, 1)
	answer <- func(*http.Request) (int, string) { return http.StatusOK, string(b) }
	return answer.RoundTrip(r)
}

// TestAStateIsHadFromAMajority of five voters, of whom the first is the one that asks.
func TestAStateIsHadFromAMajority(t *testing.T) {
	t.Parallel()
	const others = ",b=http://b:1,c=http://c:1,d=http://d:1,e=http://e:1"
	right := toldChain{50, 100, 7}
	ahead, behind, farBehind, wrong := toldChain{60, 110, 7}, toldChain{10, 70, 7}, toldChain{1, 20, 7}, toldChain{50, 100, 8}
	for name, c := range map[string]struct {
		told toldChains
		none bool
	}{
		"all are alike":                           {told: toldChains{"b:1": right, "c:1": right, "d:1": right, "e:1": right}},
		"one is down":                             {told: toldChains{"b:1": right, "c:1": ahead, "d:1": right}},
		"one is behind":                           {told: toldChains{"b:1": right, "c:1": ahead, "d:1": right, "e:1": behind}},
		"others have forgotten where one is":      {told: toldChains{"b:1": right, "c:1": ahead, "d:1": right, "e:1": farBehind}},
		"one is wrong, and another is behind":     {told: toldChains{"b:1": right, "c:1": ahead, "d:1": wrong, "e:1": behind}},
		"one is wrong, and another is far behind": {told: toldChains{"b:1": right, "c:1": ahead, "d:1": wrong, "e:1": farBehind}, none: true},
		"two are down":                            {told: toldChains{"b:1": right, "c:1": right}, none: true},
		"nobody is there":                         {none: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, vfs.NewMem(), alone+others)
			cfg.HTTP = c.told
			m := open(t, cfg)
			defer stop(t, m)
			step(m)
			if n := len(m.Members().Voters()); n != 5 {
				t.Fatalf("there are %d voters", n)
			}
			x, err := m.comparison.source(t.Context())
			if errors.Is(err, errNoMajority) != c.none || (err == nil) == c.none {
				t.Errorf("got %v", err)
			}
			if err == nil && x.chain.Point.Hash != right.hash {
				t.Errorf("the state is to be had from one with the hash %d", x.chain.Point.Hash)
			}
		})
	}
}
