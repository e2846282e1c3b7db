package apply

import "fmt"

// Proto3's rules, which the parsers keep: of a scalar that is there twice the last one counts, a message that is there
// twice is merged, of a oneof the last member counts, and unknown fields mean nothing. So a parser reads into what it is given.

// ParsePut parses an encoded PutRequest. Here as in the other parsers, the result aliases b, and the error wraps ErrMalformed.
func ParsePut(b []byte) (p Put, err error) {
	err = p.parse(b)
	return p, err
}

// ParseDeleteRange parses an encoded DeleteRangeRequest.
func ParseDeleteRange(b []byte) (d DeleteRange, err error) {
	err = d.parse(b)
	return d, err
}

// ParseRange parses an encoded RangeRequest.
func ParseRange(b []byte) (r Range, err error) {
	err = r.parse(b)
	return r, err
}

// ParseCompact parses an encoded CompactionRequest.
func ParseCompact(b []byte) (c Compact, err error) {
	err = c.parse(b)
	return c, err
}

// ParseTxn parses an encoded TxnRequest with all that is nested in it.
func ParseTxn(b []byte) (t Txn, err error) {
	err = t.parse(b, nestingMax-1)
	return t, err
}

func (p *Put) parse(b []byte) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case message(1):
			p.Key = f.bytes
		case message(2):
			p.Value = f.bytes
		case varint(3):
			p.Lease = f.number()
		case varint(4):
			p.PrevKV = f.flag()
		case varint(5):
			p.IgnoreValue = f.flag()
		case varint(6):
			p.IgnoreLease = f.flag()
		}
	}
}

func (d *DeleteRange) parse(b []byte) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case message(1):
			d.Key = f.bytes
		case message(2):
			d.RangeEnd = f.bytes
		case varint(3):
			d.PrevKV = f.flag()
		}
	}
}

func (r *Range) parse(b []byte) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case message(1):
			r.Key = f.bytes
		case message(2):
			r.RangeEnd = f.bytes
		case varint(3):
			r.Limit = f.number()
		case varint(4):
			r.Revision = f.number()
		case varint(5):
			r.SortOrder = f.enum()
		case varint(6):
			r.SortTarget = f.enum()
		case varint(7):
			r.Serializable = f.flag()
		case varint(8):
			r.KeysOnly = f.flag()
		case varint(9):
			r.CountOnly = f.flag()
		case varint(10):
			r.MinMod = f.number()
		case varint(11):
			r.MaxMod = f.number()
		case varint(12):
			r.MinCreate = f.number()
		case varint(13):
			r.MaxCreate = f.number()
		}
	}
}

func (c *Compact) parse(b []byte) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case varint(1):
			c.Revision = f.number()
		case varint(2):
			c.Physical = f.flag()
		}
	}
}

// parse parses a transaction in which messages may stand deeper by nesting.
func (t *Txn) parse(b []byte, nesting int) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case message(1):
			var c Compare
			if err = tooDeep(nesting); err == nil {
				err = c.parse(f.bytes)
			}
			t.Compare = append(t.Compare, c)
		case message(2):
			t.Success, err = appendOp(t.Success, f.bytes, nesting)
		case message(3):
			t.Failure, err = appendOp(t.Failure, f.bytes, nesting)
		}
		if err != nil {
			return err
		}
	}
}

func (c *Compare) parse(b []byte) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case varint(1):
			c.Result = CompareResult(f.enum())
		case varint(2):
			c.Target = CompareTarget(f.enum())
		case message(3):
			c.Key = f.bytes
		case varint(4), varint(5), varint(6), varint(8):
			c.Union, c.Number, c.Value = CompareUnion(f.key>>3), f.number(), nil
		case message(7):
			c.Union, c.Number, c.Value = UnionValue, 0, f.bytes
		case message(64):
			c.RangeEnd = f.bytes
		}
	}
}

func appendOp(ops []Op, b []byte, nesting int) ([]Op, error) {
	if err := tooDeep(nesting); err != nil {
		return nil, err
	}
	var op Op
	if err := op.parse(b, nesting-1); err != nil {
		return nil, err
	}
	return append(ops, op), nil
}

func (op *Op) parse(b []byte, nesting int) error {
	f := fields{rest: b}
	for {
		ok, err := f.next()
		if !ok {
			return err
		}
		switch f.key {
		case message(1), message(2), message(3), message(4):
			if err = tooDeep(nesting); err == nil {
				err = op.parseOne(f.key, f.bytes, nesting-1)
			}
		}
		if err != nil {
			return err
		}
	}
}

// parseOne parses the member of the oneof that key names; another one that was there before is dropped.
func (op *Op) parseOne(key uint64, b []byte, nesting int) error {
	switch key {
	case message(1):
		if op.Range == nil {
			*op = Op{Range: new(Range)}
		}
		return op.Range.parse(b)
	case message(2):
		if op.Put == nil {
			*op = Op{Put: new(Put)}
		}
		return op.Put.parse(b)
	case message(3):
		if op.DeleteRange == nil {
			*op = Op{DeleteRange: new(DeleteRange)}
		}
		return op.DeleteRange.parse(b)
	default:
		if op.Txn == nil {
			*op = Op{Txn: new(Txn)}
		}
		return op.Txn.parse(b, nesting)
	}
}

// tooDeep refuses one more message inside of another when no more may stand there.
func tooDeep(nesting int) error {
	if nesting <= 0 {
		return fmt.Errorf("%w: more than %d messages in each other", ErrMalformed, nestingMax)
	}
	return nil
}
