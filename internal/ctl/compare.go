package ctl

import (
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// compareTargets are what a comparison may look at, by every name it has.
var compareTargets = map[string]func(key string) clientv3.Cmp{
	"ver": clientv3.Version, "version": clientv3.Version,
	"c": clientv3.CreateRevision, "create": clientv3.CreateRevision,
	"m": clientv3.ModRevision, "mod": clientv3.ModRevision,
	"val": clientv3.Value, "value": clientv3.Value,
}

// parseCompare reads a line such as `mod("key") > "0"`.
func parseCompare(line string) (clientv3.Cmp, error) {
	var none clientv3.Cmp
	target, rest, found := strings.Cut(line, "(")
	if !found {
		return none, badInput("malformed comparison: %s", line)
	}
	compare, known := compareTargets[target]
	if !known && target != "lease" {
		return none, badInput("malformed comparison: %s (unknown target %s)", line, target)
	}
	key, operator, value, ok := splitCompare(rest)
	switch {
	case !ok:
		return none, badInput("malformed comparison: %s; got %s(%q) %s %q", line, target, key, operator, value)
	case target == "lease": // etcdctl crashes on it
		return none, badInput("malformed comparison: %s (leases cannot be compared here)", line)
	case operator != "=" && operator != "!=" && operator != "<" && operator != ">":
		return none, badInput("malformed comparison: %s (unknown operator %s)", line, operator)
	}
	cmp := compare(key)
	if target == "val" || target == "value" {
		return clientv3.Compare(cmp, operator, value), nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return none, badInput("invalid txn compare request: %s", line)
	}
	return clientv3.Compare(cmp, operator, n), nil
}

// splitCompare reads `"key") operator "value"`. When it is not that, it returns the parts before the mistake.
func splitCompare(text string) (key, operator, value string, ok bool) {
	if text == "" {
		return "", "", "", false
	}
	take := func() (string, bool) {
		q, err := strconv.QuotedPrefix(text)
		if err != nil || q[0] == '\'' {
			return "", false
		}
		v, err := strconv.Unquote(q)
		text = text[len(q):]
		return v, err == nil
	}
	if key, ok = take(); !ok {
		return "", "", "", false
	}
	after, closed := strings.CutPrefix(text, ")")
	text = strings.TrimLeft(after, " \t")
	if !closed || text == after {
		return key, "", "", false
	}
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		return key, text, "", false
	}
	operator, text = text[:end], strings.TrimLeft(text[end:], " \t")
	value, ok = take()
	return key, operator, value, ok
}
