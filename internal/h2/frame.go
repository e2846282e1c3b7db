package h2

import (
	"encoding/binary"
	"fmt"
)

// Kinds of frames, RFC 9113 section 6.
const (
	kindData         = 0x0
	kindHeaders      = 0x1
	kindPriority     = 0x2
	kindReset        = 0x3
	kindSettings     = 0x4
	kindPushPromise  = 0x5
	kindPing         = 0x6
	kindGoAway       = 0x7
	kindWindowUpdate = 0x8
	kindContinuation = 0x9
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings that are known, RFC 9113 section 6.5.2.
const (
	settingTableSize     = 0x1
	settingPush          = 0x2
	settingStreams       = 0x3
	settingWindow        = 0x4
	settingFrameSize     = 0x5
	settingHeaderListMax = 0x6
)

// code is an error code of HTTP/2, RFC 9113 section 7.
type code uint32

const (
	codeNo           code = 0x0
	codeProtocol     code = 0x1
	codeInternal     code = 0x2
	codeFlowControl  code = 0x3
	codeStreamClosed code = 0x5
	codeFrameSize    code = 0x6
	codeRefused      code = 0x7
	codeCancel       code = 0x8
	codeCompression  code = 0x9
	codeCalm         code = 0xb
)

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// frameMax is the longest payload that is sent or taken: what the protocol begins with.
	frameMax    = 16 << 10
	headerBytes = 9
	// windowMax is the largest window there may be.
	windowMax = 1<<31 - 1
	// windowDefault is the window that every connection and stream begins with.
	windowDefault   = 65535
	settingBytes    = 6
	pingBytes       = 8
	priorityBytes   = 5
	goAwayBytesMin  = 8
	streamMask      = 1<<31 - 1
	pushPromiseText = "a client cannot push"
)

// brokenConn is an error that ends a connection.
type brokenConn struct {
	code   code
	reason string
}

// Error implements error.
func (e *brokenConn) Error() string {
	return fmt.Sprintf("HTTP/2 error %#x: %s", uint32(e.code), e.reason)
}

func broken(c code, format string, args ...any) *brokenConn {
	return &brokenConn{c, fmt.Sprintf(format, args...)}
}

// frame is the header of a frame.
type frame struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

func (f frame) has(flag byte) bool { return f.flags&flag != 0 }

// parseFrame reads the header of a frame. REQUIRES: len(b) >= headerBytes.
func parseFrame(b []byte) frame {
	_ = b[headerBytes-1]
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamMask,
	}
}

func appendFrame(dst []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// check tells what is wrong with a frame by its header alone.
func (f frame) check() *brokenConn {
	if f.length > frameMax {
		return broken(codeFrameSize, "a frame of %d bytes", f.length)
	}
	switch f.kind {
	case kindData, kindHeaders, kindPriority, kindReset, kindContinuation:
		if f.stream == 0 {
			return broken(codeProtocol, "a frame of kind %#x without a stream", f.kind)
		}
	case kindSettings, kindPing, kindGoAway:
		if f.stream != 0 {
			return broken(codeProtocol, "a frame of kind %#x with a stream", f.kind)
		}
	case kindPushPromise:
		return broken(codeProtocol, pushPromiseText)
	}
	return f.checkLength()
}

func (f frame) checkLength() *brokenConn {
	bad := false
	switch f.kind {
	case kindData:
		bad = f.has(flagPadded) && f.length < 1
	case kindPriority:
		bad = f.length != priorityBytes
	case kindReset, kindWindowUpdate:
		bad = f.length != 4
	case kindSettings:
		bad = f.length%settingBytes != 0 || f.has(flagAck) && f.length > 0
	case kindPing:
		bad = f.length != pingBytes
	case kindGoAway:
		bad = f.length < goAwayBytesMin
	}
	if bad {
		return broken(codeFrameSize, "a frame of kind %#x with %d bytes", f.kind, f.length)
	}
	return nil
}

// headerBlock returns what a HEADERS frame has of a header block, without padding and priority.
func (f frame) headerBlock(p []byte) ([]byte, *brokenConn) {
	pad := 0
	if f.has(flagPadded) {
		if len(p) < 1 {
			return nil, broken(codeFrameSize, "HEADERS too short for its padding")
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.has(flagPriority) {
		if len(p) < priorityBytes {
			return nil, broken(codeFrameSize, "HEADERS too short for its priority")
		}
		p = p[priorityBytes:]
	}
	if pad > len(p) {
		return nil, broken(codeProtocol, "more padding than HEADERS has bytes")
	}
	return p[:len(p)-pad], nil
}

// setting is one parameter of a SETTINGS frame.
type setting struct {
	id    uint16
	value uint32
}

// check tells what is wrong with a setting of a client.
func (s setting) check() *brokenConn {
	switch s.id {
	case settingPush:
		if s.value > 1 {
			return broken(codeProtocol, "ENABLE_PUSH of %d", s.value)
		}
	case settingWindow:
		if s.value > windowMax {
			return broken(codeFlowControl, "INITIAL_WINDOW_SIZE of %d", s.value)
		}
	case settingFrameSize:
		if s.value < frameMax || s.value >= 1<<24 {
			return broken(codeProtocol, "MAX_FRAME_SIZE of %d", s.value)
		}
	}
	return nil
}

// eachSetting calls f for every parameter of a SETTINGS frame, whose length was checked.
func eachSetting(p []byte, f func(setting) *brokenConn) *brokenConn {
	for ; len(p) >= settingBytes; p = p[settingBytes:] {
		s := setting{binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])}
		if err := s.check(); err != nil {
			return err
		}
		if err := f(s); err != nil {
			return err
		}
	}
	return nil
}

func appendSetting(dst []byte, id uint16, value uint32) []byte {
	dst = binary.BigEndian.AppendUint16(dst, id)
	return binary.BigEndian.AppendUint32(dst, value)
}

func appendReset(dst []byte, stream uint32, c code) []byte {
	dst = appendFrame(dst, 4, kindReset, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(c))
}

func appendWindowUpdate(dst []byte, stream uint32, n int64) []byte {
	dst = appendFrame(dst, 4, kindWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendPing(dst []byte, flags byte, data []byte) []byte {
	dst = appendFrame(dst, pingBytes, kindPing, flags, 0)
	return append(dst, data...)
}

func appendGoAway(dst []byte, last uint32, c code, reason string) []byte {
	dst = appendFrame(dst, goAwayBytesMin+len(reason), kindGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(c))
	return append(dst, reason...)
}
