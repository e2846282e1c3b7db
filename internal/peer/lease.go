package peer

import (
	"fmt"
	"net/http"

	"google.golang.org/protobuf/encoding/protowire"
)

// LeaseStatus is what the leader knows of a lease. Times are in seconds.
type LeaseStatus struct {
	ID                 int64
	Granted, Remaining int64
	Keys               [][]byte
}

// Fields of etcd's messages: LeaseKeepAliveRequest and LeaseTimeToLiveRequest, their answers, and LeaseInternalRequest and
// LeaseInternalResponse, which hold the second ones in field 1.
const (
	fieldInner       protowire.Number = 1
	fieldRequestID   protowire.Number = 1
	fieldRequestKeys protowire.Number = 2
	fieldHeader      protowire.Number = 1 // of an answer; empty here
	fieldID          protowire.Number = 2
	fieldTTL         protowire.Number = 3
	fieldGranted     protowire.Number = 4
	fieldKeys        protowire.Number = 5
)

func appendInt(dst []byte, field protowire.Number, n int64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(n))
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

// eachField calls number and bytes for the fields of a message, but for those of other kinds.
func eachField(b []byte, number func(protowire.Number, int64), bytes func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				number(field, int64(v))
			}
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				bytes(field, v)
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return nil
}

func noNumber(protowire.Number, int64) {}
func noBytes(protowire.Number, []byte) {}

// leaseRequest is a keep-alive, or a question for the time to live.
type leaseRequest struct {
	id   int64
	keys bool
}

func (q leaseRequest) encode() []byte {
	b := appendInt(nil, fieldRequestID, q.id)
	if q.keys {
		b = appendInt(b, fieldRequestKeys, 1)
	}
	return b
}

func decodeLeaseRequest(b []byte) (q leaseRequest, err error) {
	err = eachField(b, func(f protowire.Number, n int64) {
		switch f {
		case fieldRequestID:
			q.id = n
		case fieldRequestKeys:
			q.keys = n != 0
		}
	}, noBytes)
	return q, err
}

// inner returns the message in field 1 of another.
func inner(b []byte) (in []byte, err error) {
	err = eachField(b, noNumber, func(f protowire.Number, v []byte) {
		if f == fieldInner {
			in = v
		}
	})
	return in, err
}

// encodeLeaseStatus encodes an answer; that of a keep-alive has neither a granted time nor keys.
func encodeLeaseStatus(s LeaseStatus) []byte {
	b := appendBytes(nil, fieldHeader, nil)
	b = appendInt(b, fieldID, s.ID)
	b = appendInt(b, fieldTTL, s.Remaining)
	b = appendInt(b, fieldGranted, s.Granted)
	for _, k := range s.Keys {
		b = appendBytes(b, fieldKeys, k)
	}
	return b
}

func decodeLeaseStatus(b []byte) (s LeaseStatus, err error) {
	err = eachField(b, func(f protowire.Number, n int64) {
		switch f {
		case fieldID:
			s.ID = n
		case fieldTTL:
			s.Remaining = n
		case fieldGranted:
			s.Granted = n
		}
	}, func(f protowire.Number, v []byte) {
		if f == fieldKeys {
			s.Keys = append(s.Keys, v)
		}
	})
	return s, err
}

// allowPost refuses every method but POST, as etcd does here: without saying what is allowed.
func allowPost(w http.ResponseWriter, req *http.Request) bool {
	if req.Method == http.MethodPost {
		return true
	}
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

func (a *api) renewLease(w http.ResponseWriter, req *http.Request) {
	if !allowPost(w, req) {
		return
	}
	b, ok := body(w, req)
	if !ok {
		return
	}
	q, err := decodeLeaseRequest(b)
	if err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	ttl, err := a.t.answers.RenewLease(req.Context(), q.id)
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	reply(w, typeProtobuf, encodeLeaseStatus(LeaseStatus{ID: q.id, Remaining: ttl}), nil)
}

func (a *api) timeToLive(w http.ResponseWriter, req *http.Request) {
	if !allowPost(w, req) {
		return
	}
	b, ok := body(w, req)
	if !ok {
		return
	}
	in, err := inner(b)
	var q leaseRequest
	if err == nil {
		q, err = decodeLeaseRequest(in)
	}
	if err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	s, err := a.t.answers.TimeToLive(req.Context(), q.id, q.keys)
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	reply(w, typeProtobuf, appendBytes(nil, fieldInner, encodeLeaseStatus(s)), nil)
}
