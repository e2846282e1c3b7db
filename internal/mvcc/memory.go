package mvcc

import "sync"

const (
	memoryMax     = 256
	memoryKeysMax = 16 << 10 // longer keys are not worth the memory
)

// span is a range of keys as a request names it.
type span struct{ key, end string }

func (s span) length() int { return len(s.key) + len(s.end) }

// memory remembers something of each of the last spans that it was told of. What it holds stays true for ever, since the past does not change. It is
// bounded: the oldest of memoryMax entries goes.
type memory[K interface {
	comparable
	length() int
}, V any] struct {
	mu    sync.Mutex
	of    map[K]V
	order []K // ring, the oldest at old
	old   int
}

func (m *memory[K, V]) get(k K) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok = m.of[k]
	return v, ok
}

func (m *memory[K, V]) put(k K, v V) {
	if k.length() > memoryKeysMax {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = make(map[K]V)
	}
	if _, ok := m.of[k]; !ok {
		m.enter(k)
	}
	m.of[k] = v
}

// enter makes room for a key that is not there.
func (m *memory[K, V]) enter(k K) {
	if len(m.order) < memoryMax {
		m.order = append(m.order, k)
		return
	}
	delete(m.of, m.order[m.old])
	m.order[m.old] = k
	m.old = (m.old + 1) % memoryMax
}

func (m *memory[K, V]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of, m.order, m.old = nil, nil, 0
}
