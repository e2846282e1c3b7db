package main

import (
	"bytes"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// TestPreparedRequestsAreValidHTTP2 reads a connection's requests as a server would: the first with its header spelt out, the
// others with references to what the first left in the table.
func TestPreparedRequestsAreValidHTTP2(t *testing.T) {
	t.Parallel()
	messages := []proto.Message{putMessage([]byte("a"), 0), putMessage([]byte("b"), 1)}
	p, err := prepare(etcdserverpb.KV_Put_FullMethodName, "127.0.0.1:1", true, 0, messages)
	if err != nil {
		t.Fatal(err)
	}
	out := p.first.appendTo(nil, 1)
	out = p.requests[1].appendTo(out, 3)
	if len(p.requests[1].frames) >= len(p.first.frames) {
		t.Error("the second header is not shorter than the first")
	}
	f := http2.NewFramer(nil, bytes.NewReader(out))
	f.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	for i, m := range messages {
		stream := uint32(2*i + 1)
		h, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h := h.(*http2.MetaHeadersFrame); h.StreamID != stream || h.PseudoValue("path") != etcdserverpb.KV_Put_FullMethodName ||
			h.PseudoValue("scheme") != "https" || h.PseudoValue("authority") != "127.0.0.1:1" {
			t.Errorf("the header of stream %d: %v", stream, h)
		}
		d, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		data := d.(*http2.DataFrame)
		var got etcdserverpb.PutRequest
		if err := proto.Unmarshal(data.Data()[messageHeaderBytes:], &got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&got, m) || data.StreamID != stream || !data.StreamEnded() {
			t.Errorf("stream %d carries %v", data.StreamID, &got)
		}
	}
}

func TestARequestThatNeedsTwoFramesIsRefused(t *testing.T) {
	t.Parallel()
	big := &etcdserverpb.PutRequest{Key: []byte("a"), Value: make([]byte, framesBytesMax)}
	_, err := prepare(etcdserverpb.KV_Put_FullMethodName, "a:1", false, 0, []proto.Message{big})
	if err == nil || !strings.Contains(err.Error(), "one frame") {
		t.Errorf("the error is %v", err)
	}
}
