package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// loadKey is the i-th of the keys that fill writes: 32 bytes, in order.
func loadKey(i int) string {
	return fmt.Sprintf("load/%027d", i)
}

// loadValue is 256 bytes that neither repeat nor compress well.
func loadValue(i int) string {
	value := make([]byte, 256)
	x := uint64(i)*0x9E3779B97F4A7C15 + 1
	for j := range value {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		value[j] = byte(x)
	}
	return string(value)
}

// fill writes count keys in transactions of 100, several at a time.
func fill(tb testing.TB, c *clientv3.Client, count int) {
	tb.Helper()
	const perTransaction, atATime = 100, 16
	ctx, cancel := context.WithTimeout(tb.Context(), wholeTest)
	defer cancel()
	next := make(chan int)
	failed := make(chan error, atATime)
	var writers sync.WaitGroup
	for range atATime {
		writers.Go(func() {
			for first := range next {
				if ctx.Err() != nil {
					continue
				}
				var operations []clientv3.Op
				for i := first; i < min(first+perTransaction, count); i++ {
					operations = append(operations, clientv3.OpPut(loadKey(i), loadValue(i)))
				}
				if _, err := c.Txn(ctx).Then(operations...).Commit(); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	for first := 0; first < count && ctx.Err() == nil; first += perTransaction {
		select {
		case next <- first:
		case <-ctx.Done():
		}
	}
	close(next)
	writers.Wait()
	close(failed)
	for err := range failed {
		tb.Fatalf("filling the store: %v", err)
	}
}
