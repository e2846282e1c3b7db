package apply

import (
	"github.com/ashlar-kv/ashlar/internal/auth"
)

// The functions of this file walk through a request and ask a judge for each range of keys that it touches: here, when an
// entry is applied, and before it is proposed. What they allow is part of the replicated format. Each returns
// nil when the request is allowed, the judge's refusal, or an error of keys.

// LeaseKeys finds the first key at or after from that hangs on a lease; ok is false when there is none, or no lease.
type LeaseKeys func(id int64, from []byte) (key []byte, ok bool, err error)

// PermitRange asks for what a range reads.
func PermitRange(j *auth.Judge, r *Range) error { return j.Read(r.Key, r.RangeEnd) }

// PermitPut asks for what a put writes and reads. One that names a lease needs to be allowed to write all keys on it: else
// keys would end with a lease that only others may revoke.
func PermitPut(j *auth.Judge, p *Put, keys LeaseKeys) error {
	if err := j.Write(p.Key, nil); err != nil {
		return err
	}
	if p.Lease != 0 {
		if err := PermitLeaseWrite(j, p.Lease, keys); err != nil {
			return err
		}
	}
	if p.PrevKV {
		return j.Read(p.Key, nil)
	}
	return nil
}

// PermitDeleteRange asks for what a deletion writes and reads.
func PermitDeleteRange(j *auth.Judge, d *DeleteRange) error {
	if err := j.Write(d.Key, d.RangeEnd); err != nil {
		return err
	}
	if d.PrevKV {
		return j.Read(d.Key, d.RangeEnd)
	}
	return nil
}

// PermitTxn asks for all that a transaction may touch, in whichever branch, at any depth. As in etcd one that touches
// nothing needs no user.
func PermitTxn(j *auth.Judge, t *Txn, keys LeaseKeys) error {
	if !j.Enabled() {
		return nil
	}
	for i := range t.Compare {
		if err := j.Read(t.Compare[i].Key, t.Compare[i].RangeEnd); err != nil {
			return err
		}
	}
	for _, branch := range [2][]Op{t.Success, t.Failure} {
		for i := range branch {
			if err := permitOp(j, &branch[i], keys); err != nil {
				return err
			}
		}
	}
	return nil
}

func permitOp(j *auth.Judge, op *Op, keys LeaseKeys) error {
	switch {
	case op.Range != nil:
		return PermitRange(j, op.Range)
	case op.Put != nil:
		return PermitPut(j, op.Put, keys)
	case op.DeleteRange != nil:
		return PermitDeleteRange(j, op.DeleteRange)
	case op.Txn != nil:
		return PermitTxn(j, op.Txn, keys)
	}
	return nil
}

// PermitLeaseWrite asks for writing every key on a lease.
func PermitLeaseWrite(j *auth.Judge, id int64, keys LeaseKeys) error {
	return permitLease(j, id, keys, j.Write, j.WritableUntil)
}

// PermitLeaseRead asks for reading every key on a lease.
func PermitLeaseRead(j *auth.Judge, id int64, keys LeaseKeys) error {
	return permitLease(j, id, keys, j.Read, j.ReadableUntil)
}

// PermitKeysRead asks for reading keys that hang on some lease, as PermitLeaseRead does.
func PermitKeysRead(j *auth.Judge, keys [][]byte) error {
	if j.Admin() == nil {
		return nil
	}
	for _, key := range keys {
		if err := j.Read(key, nil); err != nil {
			return err
		}
	}
	return nil
}

// permitLease asks for every key on a lease. Root need not know them, nor the newest auth revision, as in etcd. Keys are passed
// over up to the end of the permitted range that the last one is in: what it costs goes with the ranges, not with the keys.
func permitLease(j *auth.Judge, id int64, keys LeaseKeys, ask func(key, end []byte) error, until func(key []byte) []byte) error {
	if j.Admin() == nil {
		return nil
	}
	from := []byte{}
	for from != nil {
		key, ok, err := keys(id, from)
		if err != nil || !ok {
			return err
		}
		if err := ask(key, nil); err != nil {
			return err
		}
		from = until(key)
	}
	return nil
}

// permitted returns why the user in an entry's header may not do what the entry asks for.
func (g *group) permitted(h Header, cmd Command, raw []byte) error {
	c := g.accounts()
	if !c.Enabled() {
		return nil
	}
	j := c.Judge(auth.Subject{User: h.Username, Revision: h.AuthRevision})
	// An entry that cannot be read ends the member when it is applied.
	switch cmd {
	case CommandPut:
		if p, err := ParsePut(raw); err == nil {
			return PermitPut(&j, &p, g.leaseKeys)
		}
	case CommandDeleteRange:
		if d, err := ParseDeleteRange(raw); err == nil {
			return PermitDeleteRange(&j, &d)
		}
	case CommandTxn:
		if t, err := ParseTxn(raw); err == nil {
			return PermitTxn(&j, &t, g.leaseKeys)
		}
	case CommandLeaseRevoke:
		if id, err := parseLeaseRevoke(raw); err == nil {
			return PermitLeaseWrite(&j, id, g.leaseKeys)
		}
	case CommandAuthEnable, CommandAuthDisable,
		CommandAuthUserAdd, CommandAuthUserDelete, CommandAuthUserChangePassword, CommandAuthUserGrantRole, CommandAuthUserRevokeRole,
		CommandAuthRoleAdd, CommandAuthRoleDelete, CommandAuthRoleGrantPermission, CommandAuthRoleRevokePermission:
		return j.Admin()
	}
	return nil
}

// leaseKeys is LeaseKeys as the group sees it.
func (g *group) leaseKeys(id int64, from []byte) (key []byte, ok bool, err error) {
	if !g.leases().Exists(id) {
		return nil, false, nil
	}
	return g.leases().First(id, from)
}

// parseLeaseRevoke returns the id in an encoded LeaseRevokeRequest.
func parseLeaseRevoke(raw []byte) (id int64, err error) {
	f := fields{rest: raw}
	for {
		ok, err := f.next()
		if !ok {
			return id, err
		}
		if f.key == varint(1) {
			id = f.number()
		}
	}
}
