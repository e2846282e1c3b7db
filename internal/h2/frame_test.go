package h2

import (
	"bytes"
	"testing"
)

func TestFramesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		f    frame
		want code
	}{
		"data without a stream":                {frame{kind: kindData}, codeProtocol},
		"headers without a stream":             {frame{kind: kindHeaders}, codeProtocol},
		"settings with a stream":               {frame{kind: kindSettings, stream: 1}, codeProtocol},
		"a ping with a stream":                 {frame{kind: kindPing, stream: 1, length: 8}, codeProtocol},
		"a push":                               {frame{kind: kindPushPromise, stream: 1}, codeProtocol},
		"a frame above the limit":              {frame{kind: kindData, stream: 1, length: frameMax + 1}, codeFrameSize},
		"padded data without a length":         {frame{kind: kindData, stream: 1, flags: flagPadded}, codeFrameSize},
		"settings that end within one":         {frame{kind: kindSettings, length: 7}, codeFrameSize},
		"an acknowledgement with settings":     {frame{kind: kindSettings, length: 6, flags: flagAck}, codeFrameSize},
		"a ping of seven bytes":                {frame{kind: kindPing, length: 7}, codeFrameSize},
		"a reset of five bytes":                {frame{kind: kindReset, stream: 1, length: 5}, codeFrameSize},
		"a window update of no bytes":          {frame{kind: kindWindowUpdate}, codeFrameSize},
		"a priority of four bytes":             {frame{kind: kindPriority, stream: 1, length: 4}, codeFrameSize},
		"a goaway of seven bytes":              {frame{kind: kindGoAway, length: 7}, codeFrameSize},
		"a kind that nobody knows is let pass": {frame{kind: 0xfe, length: 3}, codeNo},
	} {
		err := c.f.check()
		if got := codeOf(err); got != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func codeOf(err *brokenConn) code {
	if err == nil {
		return codeNo
	}
	return err.code
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    setting
		want code
	}{
		{setting{settingPush, 2}, codeProtocol},
		{setting{settingWindow, 1 << 31}, codeFlowControl},
		{setting{settingFrameSize, frameMax - 1}, codeProtocol},
		{setting{settingFrameSize, 1 << 24}, codeProtocol},
		{setting{settingFrameSize, 1<<24 - 1}, codeNo},
		{setting{settingWindow, windowMax}, codeNo},
		{setting{0xabcd, 1 << 31}, codeNo},
	} {
		p := appendSetting(appendSetting(nil, settingStreams, 1), c.s.id, c.s.value)
		seen := 0
		err := eachSetting(p, func(setting) *brokenConn { seen++; return nil })
		if codeOf(err) != c.want || c.want == codeNo && seen != 2 {
			t.Errorf("%v: %v after %d", c.s, err, seen)
		}
	}
}

// FuzzFrame takes any bytes for a frame: what is let pass has the lengths that its readers rely on.
func FuzzFrame(f *testing.F) {
	f.Add(appendPing(nil, 0, make([]byte, 8)))
	f.Add(append(appendFrame(nil, 4, kindHeaders, flagPadded|flagPriority, 1), 3, 0, 0, 0))
	f.Add(appendSetting(appendFrame(nil, 6, kindSettings, 0, 0), settingWindow, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerBytes {
			return
		}
		h := parseFrame(b)
		if again := appendFrame(nil, h.length, h.kind, h.flags, h.stream); !bytes.Equal(again[:5], b[:5]) {
			t.Fatalf("%v became %v", b[:5], again[:5])
		}
		if h.check() != nil {
			return
		}
		p := b[headerBytes:]
		if h.length > len(p) {
			return
		}
		p = p[:h.length]
		switch h.kind {
		case kindHeaders:
			if block, err := h.headerBlock(p); err == nil && len(block) > len(p) {
				t.Fatalf("a block of %d bytes of %d", len(block), len(p))
			}
		case kindSettings:
			n := 0
			if eachSetting(p, func(setting) *brokenConn { n++; return nil }) == nil && n != len(p)/settingBytes {
				t.Fatalf("%d settings in %d bytes", n, len(p))
			}
		case kindPing:
			_ = [pingBytes]byte(p)
		case kindWindowUpdate, kindReset:
			_ = [4]byte(p)
		}
	})
}
