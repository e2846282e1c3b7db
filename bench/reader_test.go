package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestMain lets the test's program be the process that reads.
func TestMain(m *testing.M) {
	if asked, err := asReader(context.Background(), os.Args[1:], os.Stdout); asked {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// snapshots sends pieces, and then an error if there is one.
type snapshots struct {
	pb.UnimplementedMaintenanceServer
	pieces []string
	err    error
}

func (s *snapshots) Snapshot(_ *pb.SnapshotRequest, out grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	for _, p := range s.pieces {
		if err := out.Send(&pb.SnapshotResponse{Blob: []byte(p)}); err != nil {
			return err
		}
	}
	return s.err
}

func TestAnotherProcessReadsASnapshot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server snapshots
		want   int64
		err    string
	}{
		"whole":         {server: snapshots{pieces: []string{"abc", "de"}}, want: 5},
		"ends early":    {server: snapshots{pieces: []string{"abc"}, err: status.Error(codes.DataLoss, "the disk is gone")}, err: "the disk is gone"},
		"never begins":  {server: snapshots{err: status.Error(codes.Internal, "no room")}, err: "no room"},
		"nothing in it": {want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := grpc.NewServer()
			pb.RegisterMaintenanceServer(s, &c.server)
			go s.Serve(l)
			defer s.Stop()
			n, err := otherReads(t.Context(), l.Addr().String())
			if c.err == "" && (err != nil || n != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

func TestOtherArgumentsAskForNoReader(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--quick"}, {readerArgument}, {readerArgument, "a", "b"}} {
		if asked, err := asReader(t.Context(), args, io.Discard); asked || err != nil {
			t.Errorf("%q: %t, %v", args, asked, err)
		}
	}
}
