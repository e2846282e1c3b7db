package embed_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/url"
	"os"

	"github.com/ashlar-kv/ashlar/embed"
)

// Example runs a member on listeners of its own choice, writes by a client inside of the process, and ends.
func Example() {
	dir, err := os.MkdirTemp("", "embed")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.SlogLogger = slog.New(slog.DiscardHandler) // or the program's own
	cfg.ClientListeners, cfg.ListenClientUrls = listen()
	cfg.PeerListeners, cfg.ListenPeerUrls = listen()
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls

	e, err := embed.StartEtcd(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		log.Fatal(err)
	}

	client, err := e.Client()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(context.Background(), "colour", "red"); err != nil {
		log.Fatal(err)
	}
	got, err := client.Get(context.Background(), "colour")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s at revision %d\n", got.Kvs[0].Value, got.Header.Revision)
	// Output: red at revision 2
}

// listen returns a listener on a free port, and its URL.
func listen() ([]net.Listener, []url.URL) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return []net.Listener{l}, []url.URL{{Scheme: "http", Host: l.Addr().String()}}
}
