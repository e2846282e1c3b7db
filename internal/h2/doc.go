// Package h2 is the server side of gRPC over HTTP/2, for servers whose calls take microseconds: a transport that costs less
// than what it carries.
//
// It is written after RFC 9113 (HTTP/2), RFC 7541 (HPACK) and gRPC's "gRPC over HTTP2", and behaves as grpc-go's server (v1.85) does, whose
// source was read for its decisions, their order and its words: a client sees no difference but those named below. Handlers,
// interceptors and service descriptions are grpc-go's, and so are contexts as far as they are public: metadata, peer,
// grpc.SetHeader, grpc.SendHeader, grpc.SetTrailer and grpc.Method work. What belongs to grpc-go's inside does not: stats handlers, channelz, binary logs,
// taps, grpc.SetSendCompressor. Who needs those takes grpc-go's server.
//
// # Words
//
//   - conn: a connection; stream: one call and its HTTP/2 stream; head: what a request's headers come to, the same for many requests;
//   - reader: the goroutine of a connection that reads; flusher: whoever writes to it at the moment;
//   - to queue: to wait for room in the windows of the client, or in what is to be written.
//
// # How a call goes
//
// The reader parses frames where they were read. A block of headers that consists of references alone is looked up by its bytes
// (headers.go). The request of a unary call is collected, and once the client has ended its side a worker gets it (workers.go): no
// handler waits for bytes. A streaming call has a goroutine of its own from its headers on. The answer of a unary call, headers,
// message and status, is encoded at once behind what other calls have to send (encode.go, write.go). Whoever finds that nobody writes to the connection
// lets others run once, and then writes what all of them have added. A streaming call does not write itself: it must end with its context even when the
// client reads nothing. The acknowledgement of a ping that comes with a request waits for the answer, 10 ms at most (hold.go).
//
// # Memory and fairness
//
// Every stream is allocated once, together with the context of its call, and never used again: who keeps a context keeps it.
// Buffers of connections, of messages and of what is written come from pools.
//
//   - A message is collected only up to MaxRecvBytes, in a buffer that grows as it comes.
//   - A streaming call keeps what its handler has not taken, at most 256 KiB and one message; its client has no window for more.
//   - Messages that find 64 KiB to be written, or no window, queue in their streams, which send a frame of at most 16 KiB each in turn: a small
//     message waits for at most that much of each other stream. A streaming call with 64 KiB queued waits.
//   - Pieces of queued messages are written from where they are (lend.go), 256 KiB at once; with TLS, or when they are short, they are copied.
//   - A unary call whose answer is made while it is sent (gradual.go) waits with 512 KiB queued. How long a call waits is bounded where its handler
//     says so (patience.go).
//   - Headers are bounded by 1 MiB decoded (what is more is answered by RST_STREAM FRAME_SIZE_ERROR) or encoded and by 256 CONTINUATION frames
//     (GOAWAY ENHANCE_YOUR_CALM).
//   - A client that does not read: once 512 KiB of what answers its frames wait (acknowledgements, resets, statuses), or
//     32 MiB of messages in queues while a write hangs, no more of its frames are taken until it reads. So floods of SETTINGS, PING, empty DATA or
//     requests come to a stand. What waits for the windows of the client alone is bounded by MaxConcurrentStreams, as in grpc-go: its
//     frames are what opens them.
//   - Calls are bounded by MaxConcurrentStreams, beyond which streams are refused (REFUSED_STREAM). The handlers of streams that were reset
//     count until they return: beyond the limit, and beyond 1,024 of them in any case, no more frames are taken, so that opening and resetting
//     streams gains nothing.
//   - A client that pings more often than KeepaliveMinTime, or every two hours without a call, three times without being sent anything in between, is
//     sent GOAWAY ENHANCE_YOUR_CALM "too_many_pings".
//
// # Locks
//
// conn.mu guards what several goroutines see of a connection and its streams. It is never held over a read or a write; what is encoded under
// it goes to the wire in that order. A call's context has a lock of its own, under which nothing is called; contexts are
// cancelled with no lock held. No lock of ours is taken under keepalive's but conn.mu. Buffers may be freed under conn.mu: their pools must not call back.
//
// # Differences from grpc-go's server
//
//   - The handler of a unary call begins when the request is there, not when its headers are. A request that is too large, cut off or
//     doubled is told to the handler as soon as that is known.
//   - Errors of HTTP/2 itself end a connection with a GOAWAY that says why, also those that grpc-go's server closes it for silently or overlooks:
//     DATA, WINDOW_UPDATE or RST_STREAM on streams that were never opened, windows exceeded, settings out of range.
//   - The limit of headers is 1 MiB, not 16, and clients are told. The windows that clients begin with are fixed: 256 KiB for a stream and 16 MiB
//     for a connection, whose bytes are never kept; no pings estimate them.
//   - A server that stops does not wait for connections that have not begun.
package h2
