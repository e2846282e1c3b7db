package ctl

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/ashlar-kv/ashlar/internal/kube"
)

// shown returns a key for people: as it is when it can be printed, otherwise quoted. Nothing stored can steer a terminal.
func shown(b []byte) string {
	if printable(b, false) && len(b) > 0 {
		return string(b)
	}
	return strconv.Quote(string(b))
}

// printable tells whether b is text without control characters; lines may be broken where several are allowed.
func printable(b []byte, lines bool) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if lines && (r == '\n' || r == '\t') {
			continue
		}
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// decoding is the flag --decode.
type decoding string

func (d *decoding) define(set *pflag.FlagSet) {
	set.StringVar((*string)(d), "decode", "", "k8s: values that Kubernetes wrote are shown as YAML")
}

func (d decoding) check() error {
	if d != "" && d != "k8s" {
		return badFeature("unknown value %q of --decode; there is k8s", string(d))
	}
	return nil
}

// lines returns a value for people, a line each; of one that is no text, a line that tells its size and sum.
func (d decoding) lines(value []byte) []string {
	if d == "k8s" {
		if text, err := kube.YAML(value); err == nil {
			return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		}
	}
	if !printable(value, true) {
		return []string{fmt.Sprintf("(%d bytes that are no text, sha256 %x…)", len(value), sha256Of(value)[:6])}
	}
	return strings.Split(string(value), "\n")
}

func sha256Of(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}
