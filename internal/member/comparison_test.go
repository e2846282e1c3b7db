package member

import (
	"slices"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

func TestOnlyAMajorityOfTheVotersProves(t *testing.T) {
	t.Parallel()
	own := apply.Point{Index: 9, Base: 3, Hash: 100}
	same, other, third := peer.Point(own), peer.Point{Index: 9, Base: 3, Hash: 200}, peer.Point{Index: 9, Base: 3, Hash: 300}
	elsewhere := peer.Point{Index: 9, Base: 5, Hash: 200}
	three, five := []cluster.ID{1, 2, 3}, []cluster.ID{1, 2, 3, 4, 5}
	type told = map[cluster.ID]peer.Point
	cases := map[string]struct {
		self                       cluster.ID
		voters                     []cluster.ID
		told                       told
		never                      map[cluster.ID]bool
		differ, wrong, right, open bool
	}{
		"all alike":                              {1, three, told{2: same, 3: same}, nil, false, false, true, false},
		"one against two":                        {1, three, told{2: other, 3: other}, nil, true, true, false, false},
		"two against one":                        {1, three, told{2: same, 3: other}, nil, true, false, true, false},
		"three that all differ":                  {1, three, told{2: other, 3: third}, nil, true, false, false, false},
		"one against one, the third is silent":   {1, three, told{2: other}, nil, true, false, false, true},
		"one against one, the third is of etcd":  {1, three, told{2: other}, map[cluster.ID]bool{3: true}, true, false, false, false},
		"one that is alone to be asked":          {1, three, nil, map[cluster.ID]bool{2: true, 3: true}, false, false, false, false},
		"one against two of five":                {1, five, told{2: other, 3: other}, nil, true, false, false, true},
		"one against three of five":              {1, five, told{2: other, 3: other, 4: other}, nil, true, true, false, true},
		"two against three of five":              {1, five, told{2: same, 3: other, 4: other, 5: other}, nil, true, true, false, false},
		"another epoch says nothing":             {1, three, told{2: elsewhere, 3: elsewhere}, nil, false, false, false, false},
		"a learner against the voters":           {9, three, told{1: other, 2: other, 3: third}, nil, true, true, false, false},
		"a learner among voters that all differ": {9, three, told{1: other, 2: same, 3: third}, nil, true, false, false, false},
		"two members":                            {1, []cluster.ID{1, 2}, told{2: other}, nil, true, false, false, false},
		"point of another index":                 {1, three, told{2: {Index: 8, Base: 3, Hash: 1}, 3: {Index: 8, Base: 3, Hash: 1}}, nil, false, false, false, false},
	}
	for name, c := range cases {
		v := judge(c.self, own, c.voters, c.told, c.never)
		if v.differ != c.differ || v.wrong != c.wrong || v.right != c.right || v.open != c.open {
			t.Errorf("%s: differ %v, wrong %v, right %v, open %v", name, v.differ, v.wrong, v.right, v.open)
		}
		if (v.wrong || v.right) != (len(v.majority) > len(c.voters)/2) || slices.Contains(v.majority, c.self) != (v.right && c.self != 9) {
			t.Errorf("%s: the majority is %v", name, v.majority)
		}
	}
}
