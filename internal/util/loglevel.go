package util

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/versionpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
)

// logLevel returns the level of etcd that is needed to read all commands in a log: etcd's API says since which version a message,
// a field or a value of an enumeration is there. It is firstLevel for all that version 3.5 knows.
func logLevel(ctx context.Context, walDir, snapDir string) (level, error) {
	var newer []commandLevel
	err := etcdfile.Commands(ctx, walDir, snapDir, func(index uint64, command []byte) error {
		for len(newer) > 0 && newer[len(newer)-1].index >= index {
			newer = newer[:len(newer)-1] // it was replaced
		}
		l, err := levelOf(command)
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		// Only those that are above all before count, so there are as many at most as there are levels.
		if highest(newer).below(l) {
			newer = append(newer, commandLevel{index, l})
		}
		return nil
	})
	return highest(newer), err
}

// commandLevel is the level that a command needs.
type commandLevel struct {
	index uint64
	level level
}

func highest(newer []commandLevel) level {
	if len(newer) == 0 {
		return firstLevel
	}
	return newer[len(newer)-1].level
}

// levelOf returns the level that a command needs.
func levelOf(command []byte) (l level, err error) {
	r := &pb.InternalRaftRequest{}
	if err := proto.Unmarshal(command, r); err != nil {
		return l, err
	}
	var errs []error
	need := func(text string) {
		if text == "" {
			return
		}
		n, err := parseLevel(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("the version %q: %w", text, err))
		} else if l.below(n) {
			l = n
		}
	}
	if test := r.GetDowngradeVersionTest(); test != nil { // it says itself what it is to count as
		if text := test.GetVer(); text != "" {
			need(withoutPatch(text))
		}
	}
	eachVersion(r.ProtoReflect(), need)
	return l, errors.Join(errs...)
}

// eachVersion calls need with what the API says of a message and of all that is set in it.
func eachVersion(m protoreflect.Message, need func(version string)) {
	need(versionIn(m.Descriptor().Options(), versionpb.E_EtcdVersionMsg))
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		need(versionIn(f.Options(), versionpb.E_EtcdVersionField))
		each := func(v protoreflect.Value) {
			switch {
			case f.Message() != nil:
				eachVersion(v.Message(), need)
			case f.Enum() != nil:
				need(versionIn(f.Enum().Options(), versionpb.E_EtcdVersionEnum))
				if x := f.Enum().Values().ByNumber(v.Enum()); x != nil {
					need(versionIn(x.Options(), versionpb.E_EtcdVersionEnumValue))
				}
			}
		}
		switch {
		case f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				each(v.List().Get(i))
			}
		default:
			each(v)
		}
		return true
	})
}

// versionIn returns the version in the options of a descriptor, "" for none.
func versionIn(options proto.Message, of protoreflect.ExtensionType) string {
	text, _ := proto.GetExtension(options, of).(string)
	return text
}
