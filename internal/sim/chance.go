package sim

import (
	"bytes"
	crand "crypto/rand"
	"io"
	"math/rand"
	"runtime"
	"sync"
)

// raft draws its election timeouts from crypto/rand. Where a world asks for random bytes they come from the world's seed.
func init() { crand.Reader = chance{crand.Reader} }

// chance is the source of random bytes of the process: for each goroutine that a world runs in a source of its own, for all others
// that of the system.
type chance struct{ others io.Reader }

// sources has an io.Reader for each goroutine of a world.
var sources sync.Map

// Read implements io.Reader.
func (c chance) Read(b []byte) (int, error) {
	if r, ok := sources.Load(goroutine()); ok {
		return r.(io.Reader).Read(b)
	}
	return c.others.Read(b)
}

// fix makes what this goroutine draws follow from a seed, until free is called.
func fix(seed int64) (free func()) {
	id := goroutine()
	sources.Store(id, rand.New(rand.NewSource(^seed)))
	return func() { sources.Delete(id) }
}

// goroutine names the one that asks, as the runtime tells it in a stack: "goroutine 7 [running]:".
func goroutine() string {
	var b [32]byte
	text := b[:runtime.Stack(b[:], false)]
	return string(bytes.Fields(text)[1])
}
