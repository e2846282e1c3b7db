package web

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"golang.org/x/net/http2"
)

// source is a connection that only reads.
type source struct {
	net.Conn
	io.Reader
}

func (s source) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// withoutFirstAck is a slow and obvious unacknowledged.
func withoutFirstAck(b []byte) []byte {
	out := append([]byte(nil), b[:min(len(b), prefaceBytes)]...)
	for at := len(out); ; {
		if len(b)-at < frameHeaderBytes {
			return out // half a header
		}
		length := int(b[at])<<16 | int(b[at+1])<<8 | int(b[at+2])
		end := min(len(b), at+frameHeaderBytes+length)
		if b[at+3] == typeSettings && b[at+4]&flagAck != 0 && length == 0 {
			return append(out, b[at+frameHeaderBytes:]...)
		}
		out = append(out, b[at:end]...)
		at = end
	}
}

func FuzzTheFirstAcknowledgementIsTakenAndNothingElse(f *testing.F) {
	f.Add([]byte(opened(f, settings(false), window, settings(true), request(1, ""), settings(true))))
	f.Add([]byte(opened(f, settings(true))))
	f.Add([]byte(opened(f, ping, request(1, "application/grpc"))))
	f.Add([]byte("PRI"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want := withoutFirstAck(b)
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b))} {
			got, err := io.ReadAll(&unacknowledged{Conn: source{Reader: r}, pass: prefaceBytes})
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %q, %v; want %q", name, got, err, want)
			}
		}
	})
}

func FuzzAnOpeningIsReadWithinItsBounds(f *testing.F) {
	f.Add([]byte(opened(f, settings(false), request(1, "application/grpc"))))
	f.Add([]byte(opened(f, settings(false), request(1, "text/plain"))))
	f.Add([]byte(http2.ClientPreface + "\x00\x00\x10\x04\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			_, _ = client.Write(b)
			_ = client.Close()
		}()
		defer server.Close()
		o := opening{conn: greetless{server}, wait: requestWait}
		o.look()
		if len(o.read) > openingBytesMax {
			t.Errorf("kept %d bytes", len(o.read))
		}
		if !bytes.HasPrefix(b, o.read) {
			t.Errorf("kept %q of %q", o.read, b)
		}
	})
}

// greetless is a connection whose client reads nothing.
type greetless struct{ net.Conn }

func (greetless) Write(p []byte) (int, error) { return len(p), nil }
