package web

import (
	"fmt"
	"net"
	"net/http"
	"slices"
)

// misdirected is what a client is told that asked a host of another name.
const misdirected = `The Host header of this request names %q, which is not a name that this server answers to in the clear.

Either use https, or add the name to the list: --host-whitelist %q

Without the check, a page of any site could reach this server through a name of its own that resolves to the
server's address ("DNS rebinding", CVE-2018-5702).
`

// hosts are the names that requests in the clear may be addressed to; "*" or none for all.
type hosts []string

// only answers requests to other names itself. With TLS the certificate vouches for the name, so all pass.
func (l hosts) only(h http.Handler) http.Handler {
	if len(l) == 0 || slices.Contains(l, "*") {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := hostname(r); r.TLS == nil && !slices.Contains(l, name) {
			http.Error(w, fmt.Sprintf(misdirected, name, name), http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hostname returns the name that a request is addressed to, without a port.
func hostname(r *http.Request) string {
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		return name
	}
	return r.Host
}
