package web

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// encoding is the JSON of the gateway: that of protojson, with the field names of the .proto files, bytes in base64, 64-bit numbers
// as strings (and taken as numbers too) and fields of default values left out. Unknown fields are ignored.
type encoding struct{ runtime.JSONPb }

func newEncoding() *encoding {
	return &encoding{runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}}
}

// failedCall is the answer of a call that failed. etcd 3.6 and later send code and message, earlier releases error too, and
// there are clients that read the one or the other.
type failedCall struct {
	Error   string `json:"error"`
	Code    int32  `json:"code"`
	Message string `json:"message"`
}

// failedStream is what ends a stream of answers that failed, in the field error of its line: the fields of etcd since 3.6,
// code and message, and those of earlier releases.
type failedStream struct {
	Code       int32  `json:"code"`
	Message    string `json:"message"`
	GRPCCode   int32  `json:"grpc_code"`
	HTTPCode   int    `json:"http_code"`
	HTTPStatus string `json:"http_status"`
}

// Marshal implements runtime.Marshaler.
func (e *encoding) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case *spb.Status:
		return json.Marshal(failedCall{Error: v.GetMessage(), Code: v.GetCode(), Message: v.GetMessage()})
	case map[string]proto.Message:
		if s, ok := v["error"].(*spb.Status); ok {
			return json.Marshal(map[string]failedStream{"error": streamFailure(s)})
		}
	}
	return e.JSONPb.Marshal(v)
}

func streamFailure(s *spb.Status) failedStream {
	h := runtime.HTTPStatusFromCode(codes.Code(s.GetCode())) //nolint:gosec // a code of a status
	return failedStream{Code: s.GetCode(), Message: s.GetMessage(), GRPCCode: s.GetCode(), HTTPCode: h, HTTPStatus: http.StatusText(h)}
}

// NewDecoder implements runtime.Marshaler.
func (e *encoding) NewDecoder(r io.Reader) runtime.Decoder {
	d := e.JSONPb.NewDecoder(r)
	b, ok := r.(*body)
	if !ok {
		return d
	}
	return runtime.DecoderFunc(func(v any) error { return b.next(func() error { return d.Decode(v) }) })
}
