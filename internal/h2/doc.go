// Package h2 serves gRPC.
package h2
