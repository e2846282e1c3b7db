package cluster

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// groupKeys is how many keys a group has: what must be atomic is written to all of them in one transaction.
const groupKeys = 2

// register is what a key holds. Its version is 0 when the key is not there.
type register struct {
	value        string
	version, mod int64
}

// unseen is the mod revision of a register that a write without an answer has changed.
const unseen = -1

// registers are the keys of one group, and the highest revision that an answer about them has told.
type registers struct {
	keys [groupKeys]register
	at   int64
}

// request is what a client asks of a group.
type request struct {
	kind  kind
	group int
	key   int // which one; both when it is groupKeys
	value string
	// compare and operand are the condition of a swap, on the first key that it writes.
	compare comparison
	operand register
}

type kind int

const (
	get kind = iota
	put
	remove
	swap
)

type comparison int

const (
	byValue comparison = iota
	byVersion
	byMod
)

// answer is what the client was told.
type answer struct {
	// unknown says that there was no answer: the request may have been carried out, may be yet, or never.
	unknown  bool
	revision int64 // of the header
	// keys is what a get has seen, and what a write has found before it, whether it happened or not.
	keys [groupKeys]register
	done bool // a swap's condition held, a deletion found something
}

// has says whether the request is about a key.
func (r request) has(key int) bool { return r.key == key || r.key == groupKeys }

// first is the key that a swap compares.
func (r request) first() int { return r.key % groupKeys }

// holds says whether a swap's condition does.
func (r request) holds(x register) bool {
	switch r.compare {
	case byValue:
		return x.version > 0 && x.value == r.operand.value
	case byVersion:
		return x.version == r.operand.version
	default:
		return x.mod == r.operand.mod
	}
}

// model is a group of registers for porcupine.
var model = porcupine.Model{
	Init: func() any { return registers{} },
	Step: func(state, in, out any) (bool, any) { return step(state.(registers), in.(request), out.(answer)) },
	DescribeOperation: func(in, out any) string {
		return fmt.Sprintf("%+v -> %+v", in, out)
	},
}

// step says whether a group may answer so, and what it is afterwards.
func step(s registers, r request, a answer) (bool, registers) {
	if a.unknown {
		return true, unanswered(s, r)
	}
	writes := r.kind == put || a.done
	if a.revision < s.at || writes && a.revision == s.at {
		return false, s
	}
	s.at = a.revision
	if !s.see(r, a) || r.kind == swap && a.done != r.holds(a.keys[r.first()]) {
		return false, s
	}
	if r.kind == remove && a.done != (s.keys[r.key].version > 0) {
		return false, s
	}
	if writes {
		s.write(r, a.revision)
	}
	return true, s
}

// see compares what an answer tells with the keys, and learns the mod revisions that were not seen yet.
func (s *registers) see(r request, a answer) bool {
	for i := range s.keys {
		if !r.has(i) {
			continue
		}
		if is, told := s.keys[i], a.keys[i]; is.value != told.value || is.version != told.version || is.mod != unseen && is.mod != told.mod {
			return false
		}
		s.keys[i] = a.keys[i]
	}
	return true
}

// write is what a request changes.
func (s *registers) write(r request, revision int64) {
	for i, x := range s.keys {
		switch {
		case !r.has(i):
		case r.kind == remove:
			s.keys[i] = register{}
		default:
			s.keys[i] = register{value: r.value, version: x.version + 1, mod: revision}
		}
	}
}

// unanswered is the group after a request that was carried out without an answer. A swap never names a mod revision that is
// unseen here: whoever sent it had seen the one it names.
func unanswered(s registers, r request) registers {
	switch {
	case r.kind == get, r.kind == swap && !r.holds(s.keys[r.first()]), r.kind == remove && s.keys[r.key].version == 0:
		return s
	}
	s.write(r, unseen)
	return s
}

// checkLinearizable returns the groups whose operations have no order in which a store with one copy could have answered so, and
// those that could not be decided in time.
func checkLinearizable(groups map[int][]porcupine.Operation, limit time.Duration) (wrong, undecided []int) {
	for number, ops := range groups {
		switch porcupine.CheckOperationsTimeout(model, ops, limit) {
		case porcupine.Illegal:
			wrong = append(wrong, number)
		case porcupine.Unknown:
			undecided = append(undecided, number)
		}
	}
	return wrong, undecided
}

// never is the end of an operation without an answer.
const never = math.MaxInt64
