package web

import (
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	prefaceBytes = len(http2.ClientPreface)
	// openingBytesMax bounds what is read of a connection until its first request shows what it is.
	openingBytesMax = 64 << 10
	// headerListMax bounds the headers of that request that are looked at.
	headerListMax = 32 << 10
	// tableBytes is the size of the table of headers that every connection begins with.
	tableBytes = 4096
	// grpcType is how the content type of every gRPC request begins.
	grpcType = "application/grpc"
)

// sight is what the opening of an HTTP/2 connection showed.
type sight int

const (
	sawGRPC    sight = iota // a gRPC request
	sawHTTP                 // another request, or what no gRPC client sends
	sawNothing              // a client that waits, or has gone
)

// opening is the beginning of an HTTP/2 connection, up to its first request.
type opening struct {
	conn    net.Conn
	read    []byte // all that was read of it
	wait    time.Duration
	greeted bool // an empty settings frame was sent
}

var errTooMuch = errors.New("too much before the first request")

// Read reads from the connection and keeps what it read.
func (o *opening) Read(p []byte) (int, error) {
	if len(o.read)+len(p) > openingBytesMax {
		return 0, errTooMuch
	}
	n, err := o.conn.Read(p)
	o.read = append(o.read, p[:n]...)
	return n, err
}

// look reads up to the headers of the first request. Many gRPC clients, unlike HTTP clients, send none before they have seen the
// settings of the server: so it sends empty ones. The server behind sends its own after them.
func (o *opening) look() sight {
	if _, err := io.ReadFull(o, make([]byte, prefaceBytes-len(o.read))); err != nil {
		return sawNothing
	}
	f := http2.NewFramer(o.conn, o)
	f.SetMaxReadFrameSize(1 << 14) // the least that the protocol allows to demand, and the greatest before it is settled
	f.ReadMetaHeaders = hpack.NewDecoder(tableBytes, nil)
	f.MaxHeaderListSize = headerListMax
	for {
		frame, err := f.ReadFrame()
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return kind(frame)
		case *http2.SettingsFrame:
			if o.greeted {
				continue
			}
			if o.conn.SetDeadline(time.Now().Add(o.wait)) != nil || f.WriteSettings() != nil {
				return sawNothing
			}
			o.greeted = true
			continue
		}
		var timeout net.Error
		switch {
		case errors.Is(err, io.EOF), errors.As(err, &timeout) && timeout.Timeout():
			return sawNothing
		case err != nil, !o.greeted:
			return sawHTTP // its server knows how to say what is wrong
		}
	}
}

// kind tells what a request is.
func kind(h *http2.MetaHeadersFrame) sight {
	for _, f := range h.RegularFields() {
		if f.Name == "content-type" && strings.HasPrefix(f.Value, grpcType) {
			return sawGRPC
		}
	}
	return sawHTTP
}
