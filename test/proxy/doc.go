// Package proxy tests the gateway and the gRPC proxy with stock clients against real members over real sockets.
package proxy
