package audit

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// Bounds of a line. What is longer is cut, and says so.
const (
	// TouchesMax is how many ranges of keys a line names.
	TouchesMax = 32
	// textMax is how many bytes it has of a key or a name.
	textMax = 512
)

// timeLayout is RFC 3339 with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// Touch is a range of keys that a request names: [Key, End), the one key for no end, and all from the key on for the end "\x00".
type Touch struct {
	// Op is what is done there: range, put, delete, compare, watch.
	Op string
	// Key and End are only read while Add runs.
	Key, End []byte
	// Lease is that of a put; 0 for none.
	Lease int64
}

// Record is one request as the log tells it. Empty fields are left out.
type Record struct {
	// Began is when the request came; Took is how long it lasted, a stream until its end.
	Began time.Time
	Took  time.Duration
	// User is who asked, by token or certificate; nobody while authentication is off.
	User string
	// Certificate is the common name in the client's verified certificate.
	Certificate string
	// From is the client's address; Via is "gateway" for requests in JSON.
	From, Via string
	// Method is the full name of the gRPC method.
	Method string
	// Touches are the keys, at most TouchesMax; More counts those beyond.
	Touches []Touch
	More    int
	// Lease is the lease that a request is about, Revision the revision of a compaction.
	Lease, Revision int64
	// Subject and Role are the user and the role that a request is about; of a login, whom it claims to be.
	Subject, Role string
	// Member is the member that a request is about, as etcd prints ids; Detail is an action, such as that of an alarm.
	Member, Detail string
	// Code is the name of the gRPC status that the client was given.
	Code string
}

// line is a Record in JSON.
type line struct {
	Time        string      `json:"time"`
	User        string      `json:"user,omitempty"`
	Certificate string      `json:"certificate,omitempty"`
	From        string      `json:"from,omitempty"`
	Via         string      `json:"via,omitempty"`
	Method      string      `json:"method"`
	Keys        []touchLine `json:"keys,omitempty"`
	More        int         `json:"more_keys,omitempty"`
	Lease       string      `json:"lease,omitempty"`
	Revision    int64       `json:"revision,omitempty"`
	Subject     string      `json:"subject,omitempty"`
	Role        string      `json:"role,omitempty"`
	Member      string      `json:"member,omitempty"`
	Detail      string      `json:"detail,omitempty"`
	Code        string      `json:"code"`
	Took        int64       `json:"took_us"`
}

// touchLine is a Touch in JSON. Of key and key_base64 there is one: keys that are no UTF-8 stand in Base64.
type touchLine struct {
	Op    string `json:"op"`
	Key   string `json:"key,omitempty"`
	Key64 string `json:"key_base64,omitempty"`
	End   string `json:"end,omitempty"`
	End64 string `json:"end_base64,omitempty"`
	Cut   bool   `json:"cut,omitempty"`
	Lease string `json:"lease,omitempty"`
}

// encode returns the line of a record, with its line break.
func (r *Record) encode() ([]byte, error) {
	out := line{
		Time: r.Began.UTC().Format(timeLayout), User: cut(r.User), Certificate: cut(r.Certificate), From: cut(r.From), Via: r.Via,
		Method: cut(r.Method), More: r.More, Lease: hex(r.Lease), Revision: r.Revision, Subject: cut(r.Subject),
		Role: cut(r.Role), Member: r.Member, Detail: cut(r.Detail), Code: r.Code, Took: r.Took.Microseconds(),
	}
	touches := r.Touches
	if len(touches) > TouchesMax {
		out.More += len(touches) - TouchesMax
		touches = touches[:TouchesMax]
	}
	for _, t := range touches {
		l := touchLine{Op: t.Op, Lease: hex(t.Lease)}
		var cutKey, cutEnd bool
		l.Key, l.Key64, cutKey = spell(t.Key)
		l.End, l.End64, cutEnd = spell(t.End)
		l.Cut = cutKey || cutEnd
		out.Keys = append(out.Keys, l)
	}
	b, err := json.Marshal(out)
	return append(b, '\n'), err
}

// spell returns a key as text, or in Base64 where it is none, and whether it had to be cut.
func spell(key []byte) (text, base string, wasCut bool) {
	if wasCut = len(key) > textMax; wasCut {
		key = key[:wholeLetters(key)]
	}
	if utf8.Valid(key) {
		return string(key), "", wasCut
	}
	return "", base64.StdEncoding.EncodeToString(key), wasCut
}

// cut bounds what a client may choose the length of.
func cut(name string) string {
	if len(name) <= textMax {
		return name
	}
	return name[:wholeLetters(name)] + "…"
}

// wholeLetters returns where to cut a long text so that no letter is cut in two.
func wholeLetters[T string | []byte](text T) int {
	n := textMax
	for n > textMax-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}

// hex spells the id of a lease as etcd's tools do.
func hex(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(id), 16)
}
