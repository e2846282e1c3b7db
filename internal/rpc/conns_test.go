package rpc

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/h2"
)

func TestAConnectionIsCutByItsAddress(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]func() (net.Listener, error){
		"tcp":  func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		"unix": func() (net.Listener, error) { return net.Listen("unix", filepath.Join(t.TempDir(), "s")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			all := NewConns()
			gone := make(chan string, 2)
			all.gone = func(client string) { gone <- client }
			lis := all.Listen(plain)
			defer lis.Close()
			pair := func() (client, server net.Conn) {
				client, err := net.Dial(lis.Addr().Network(), lis.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { client.Close() })
				if server, err = lis.Accept(); err != nil {
					t.Fatal(err)
				}
				return client, server
			}
			slow, held := pair()
			if _, own := held.(h2.Overlay).WritesTo().(*noted); own {
				t.Error("what is written to it goes to itself")
			}
			_, other := pair()
			all.cut(held.RemoteAddr().String())
			if _, err := slow.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the client that was cut off read: %v", err)
			}
			if err := other.Close(); err != nil {
				t.Errorf("the other one was cut off: %v", err)
			}
			all.cut(other.RemoteAddr().String()) // ended meanwhile
			_ = held.Close()
			if a, b := <-gone, <-gone; a != other.RemoteAddr().String() || b != held.RemoteAddr().String() {
				t.Errorf("ended: %s and %s", a, b)
			}
			if len(all.open) != 0 {
				t.Errorf("%d connections are still noted", len(all.open))
			}
		})
	}
}
