package apply

import "google.golang.org/protobuf/encoding/protowire"

// appendField appends a length-delimited field, an empty one too.
func appendField(dst []byte, num protowire.Number, b []byte) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, b)
}

// appendNumber appends a varint field, unless it is zero.
func appendNumber(dst []byte, num protowire.Number, n int64) []byte {
	if n == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, uint64(n))
}

func appendFlag(dst []byte, num protowire.Number, b bool) []byte {
	if !b {
		return dst
	}
	return appendNumber(dst, num, 1)
}

// numberSize is the length of what appendNumber appends for a field number below 16.
func numberSize(n int64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(uint64(n))
}

// fieldSize is the length of what appendField appends for a field number below 16 and n bytes.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

// answer is the answer of one operation of a transaction: a ResponseOp. The answers are collected as a tree first, since
// the length of each stands before it, and written in one pass then.
type answer struct {
	field answerField // 0 for an empty operation
	rev   int64       // of the header; 0 in a nested transaction's, which is empty
	body  []byte      // without header; not used for a nested transaction
	txn   *txnAnswer
	size  int // of the response message
}

// txnAnswer is a TxnResponse without its header.
type txnAnswer struct {
	succeeded bool
	responses []answer
	size      int
}

// answerField is the number of a field of ResponseOp.
type answerField = protowire.Number

const (
	answerRange answerField = iota + 1
	answerPut
	answerDeleteRange
	answerTxn
)

func leafAnswer(field answerField, rev int64, body []byte) answer {
	return answer{field: field, rev: rev, body: body, size: fieldSize(numberSize(rev)) + len(body)}
}

func nestedAnswer(t *txnAnswer) answer {
	return answer{field: answerTxn, txn: t, size: fieldSize(0) + t.size}
}

// opSize is the length of the ResponseOp around the response.
func (a *answer) opSize() int {
	if a.field == 0 {
		return 0
	}
	return fieldSize(a.size)
}

func newTxnAnswer(succeeded bool, responses []answer) *txnAnswer {
	t := &txnAnswer{succeeded: succeeded, responses: responses}
	if succeeded {
		t.size += 2
	}
	for i := range responses {
		t.size += fieldSize(responses[i].opSize())
	}
	return t
}

// append appends the TxnResponse without its header.
func (t *txnAnswer) append(dst []byte) []byte {
	dst = appendFlag(dst, 2, t.succeeded)
	for i := range t.responses {
		a := &t.responses[i]
		dst = appendLength(dst, 3, a.opSize())
		if a.field == 0 {
			continue
		}
		dst = appendLength(dst, a.field, a.size)
		dst = appendLength(dst, 1, numberSize(a.rev))
		dst = appendNumber(dst, 3, a.rev)
		if a.txn != nil {
			dst = a.txn.append(dst)
		} else {
			dst = append(dst, a.body...)
		}
	}
	return dst
}

// appendLength appends the head of a length-delimited field.
func appendLength(dst []byte, num protowire.Number, n int) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(n))
}
