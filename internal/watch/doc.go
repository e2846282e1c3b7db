// Package watch tells those who ask what changes in the store.
package watch
