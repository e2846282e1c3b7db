package apply

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"github.com/coreos/go-semver/semver"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// etcd 3.5 publishes members and sets the cluster's version by requests to its v2 store. An entry holds one by itself, or
// as a command. Of all others nothing is known here, nor in etcd 3.6: they stop the member.

// methodPut is the only method of such a request.
const methodPut = "PUT"

// v2Version is where the cluster's version stood in the v2 store.
const v2Version = "/0/version"

// v2Attributes is where a member's attributes stood.
var v2Attributes = regexp.MustCompile(`^/0/members/([0-9a-f]{1,16})/attributes$`)

// v2Request is an etcdserverpb.Request of etcd 3.5.
type v2Request struct {
	id                  uint64
	method, path, value string
}

func parseV2(b []byte) (r v2Request, err error) {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return r, err
		}
		switch f.key {
		case varint(1):
			r.id = f.n
		case message(2):
			r.method, err = f.text()
		case message(3):
			r.path, err = f.text()
		case message(4):
			r.value, err = f.text()
		}
		if err != nil {
			return r, err
		}
	}
}

// isBareV2 tells whether an entry's data are such a request by itself: where an InternalRaftRequest would have a v2 request
// as its second field, they have the method, which cannot be read as one.
func isBareV2(data []byte) bool {
	f := fields{rest: data}
	for range 2 { // after the id
		if ok, err := f.next(); !ok || err != nil {
			return false
		}
		if f.key == message(2) {
			return string(f.bytes) == methodPut
		}
		if f.key != varint(1) {
			return false
		}
	}
	return false
}

// v2Change is what a request does.
type v2Change struct {
	version    string // the cluster's, or
	member     cluster.ID
	attributes struct {
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
}

// change returns what the request does.
func (r v2Request) change() (c v2Change, err error) {
	if r.method != methodPut {
		return c, fmt.Errorf("%w: a v2 request with the method %q", ErrUnknownCommand, r.method)
	}
	if r.path == v2Version {
		c.version = r.value
		return c, checkClusterVersion(r.value)
	}
	m := v2Attributes.FindStringSubmatch(r.path)
	if m == nil {
		return c, fmt.Errorf("%w: a v2 request for %q", ErrUnknownCommand, r.path)
	}
	id, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		return c, fmt.Errorf("%w: the member %q: %w", ErrMalformed, m[1], err)
	}
	c.member = cluster.ID(id)
	if err := json.Unmarshal([]byte(r.value), &c.attributes); err != nil {
		return c, fmt.Errorf("%w: the attributes of member %s: %w", ErrMalformed, c.member, err)
	}
	return c, nil
}

// v2 applies a v2 request.
func (g *group) v2(raw []byte) error {
	r, err := parseV2(raw)
	if err != nil {
		return err
	}
	c, err := r.change()
	if err != nil {
		return err
	}
	if c.version != "" {
		return g.change().SetVersion(semver.New(c.version).String())
	}
	return g.change().SetAttributes(c.member, c.attributes.Name, c.attributes.ClientURLs)
}
