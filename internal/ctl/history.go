package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (s *session) historyCommand() *cobra.Command {
	var decode decoding
	c := &cobra.Command{Use: "history <key>", Short: "Prints all stored versions of a key, oldest first, with differences",
		Long: "Prints all versions of a key that are stored, oldest first, each as the difference to the one before, and says where\n" +
			"compaction has cut its history. -w json prints an object a version, with the value in base64."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return badArguments("history needs one argument, the key")
		}
		if err := errors.Join(decode.check(), s.forms("simple", "json")); err != nil {
			return err
		}
		return s.history(ctx, args[0], decode)
	})
	decode.define(c.Flags())
	return c
}

// progressPoll is how often a member is asked how far a watch has come, when no event can tell.
const progressPoll = 100 * time.Millisecond

// historyAttempts is how often reading begins again because a compaction cut what was to be read next.
const historyAttempts = 5

func (s *session) history(ctx context.Context, key string, decode decoding) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		h := &keyHistory{s: s, client: c, key: key, out: versionPrinter{s: s, decode: decode, paint: s.paint()}}
		err := h.read(ctx)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		if h.out.printed || attempt == historyAttempts {
			return fmt.Errorf("history was compacted while it was read; ask again: %w", err)
		}
	}
}

// keyHistory reads the versions of a key: the one that compaction kept, and the events since.
type keyHistory struct {
	s      *session
	client *clientv3.Client
	key    string
	out    versionPrinter
}

func (h *keyHistory) get(ctx context.Context, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := h.s.request(ctx)
	defer cancel()
	return h.client.Get(ctx, h.key, clientv3.WithRev(revision))
}

func (h *keyHistory) read(ctx context.Context) error {
	now, err := h.get(ctx, 0)
	if err != nil {
		return err
	}
	first, err := h.s.compacted(ctx, h.client, h.key)
	if err != nil {
		return err
	}
	var kept *mvccpb.KeyValue
	if first > 0 {
		r, err := h.get(ctx, first)
		if err != nil {
			return err
		}
		if len(r.Kvs) > 0 {
			kept = r.Kvs[0]
		}
	}
	if err := h.out.begin(h.key, first, kept); err != nil {
		return err
	}
	newest := now.Header.GetRevision()
	if len(now.Kvs) > 0 {
		newest = now.Kvs[0].GetModRevision()
	}
	if newest > first && (kept == nil || kept.GetModRevision() < newest) {
		if err := h.follow(ctx, first+1, newest, len(now.Kvs) == 0); err != nil {
			return err
		}
	}
	return h.out.end(now.Header.GetRevision())
}

// follow prints the events from a revision to the newest one. When the key is gone no event marks the end: the member
// is asked how far it has come. Progress limits the waiting: without any for the time of a request, it fails.
func (h *keyHistory) follow(ctx context.Context, from, newest int64, gone bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := h.client.Watch(ctx, h.key, clientv3.WithRev(from), clientv3.WithFragment(), clientv3.WithCreatedNotify())
	poll := time.NewTicker(progressPoll)
	defer poll.Stop()
	late := time.NewTimer(h.s.settings.commandTimeout)
	defer late.Stop()
	for {
		select {
		case r, ok := <-events:
			if !ok {
				return errors.New("the watch ended early")
			}
			if err := r.Err(); err != nil {
				return err
			}
			for _, e := range r.Events {
				if e.Kv.GetModRevision() > newest {
					return nil
				}
				if err := h.out.event((*mvccpb.Event)(e)); err != nil {
					return err
				}
				if !gone && e.Kv.GetModRevision() == newest {
					return nil
				}
			}
			if r.IsProgressNotify() && r.Header.GetRevision() >= newest {
				return nil
			}
			if len(r.Events) > 0 || r.Created {
				late.Reset(h.s.settings.commandTimeout)
			}
		case <-poll.C:
			if err := h.client.RequestProgress(ctx); err != nil {
				return err
			}
		case <-late.C:
			return fmt.Errorf("the member sent nothing of the key's history for %v", h.s.settings.commandTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// versionPrinter prints versions of one key and remembers the last value alone.
type versionPrinter struct {
	s       *session
	decode  decoding
	paint   paint
	last    []byte
	alive   bool // last is a value
	printed bool
}

// versionLine is a version as JSON. Value is base64, so that any value fits.
type versionLine struct {
	Revision int64  `json:"revision"`
	Type     string `json:"type"`
	Version  int64  `json:"version,omitempty"`
	Created  int64  `json:"create_revision,omitempty"`
	Lease    string `json:"lease,omitempty"`
	Value    []byte `json:"value,omitempty"`
}

func (v *versionPrinter) json() bool { return v.s.settings.format == "json" }

// begin says where history begins, and prints the version that compaction kept.
func (v *versionPrinter) begin(key string, compacted int64, kept *mvccpb.KeyValue) error {
	if compacted > 0 && !v.json() {
		fmt.Fprintf(v.s.Stdout, "%s\n", v.paint.yellow(fmt.Sprintf("compacted at revision %d: what %s was before is no longer stored",
			compacted, shown([]byte(key)))))
	}
	if kept == nil {
		return nil
	}
	return v.put(kept)
}

func (v *versionPrinter) event(e *mvccpb.Event) error {
	if e.GetType() == mvccpb.Event_PUT {
		return v.put(e.GetKv())
	}
	v.printed = true
	v.last, v.alive = nil, false
	if v.json() {
		return v.jsonLine(versionLine{Revision: e.GetKv().GetModRevision(), Type: "delete"})
	}
	_, err := fmt.Fprintln(v.s.Stdout, v.paint.bold(fmt.Sprintf("revision %d", e.GetKv().GetModRevision()))+"  "+v.paint.red("deleted"))
	return err
}

func (v *versionPrinter) put(kv *mvccpb.KeyValue) error {
	v.printed = true
	before, alive := v.last, v.alive
	v.last, v.alive = kv.GetValue(), true
	lease := ""
	if kv.GetLease() != 0 {
		lease = fmt.Sprintf("%016x", kv.GetLease())
	}
	if v.json() {
		return v.jsonLine(versionLine{Revision: kv.GetModRevision(), Type: "put", Version: kv.GetVersion(),
			Created: kv.GetCreateRevision(), Lease: lease, Value: kv.GetValue()})
	}
	return (&page{Writer: v.s.Stdout}).buffered(func(p *page) {
		head := fmt.Sprintf("  version %d, %d bytes", kv.GetVersion(), len(kv.GetValue()))
		if lease != "" {
			head += ", lease " + lease
		}
		p.line(v.paint.bold(fmt.Sprintf("revision %d", kv.GetModRevision())) + head)
		v.decode.writeChange(p, v.paint, before, kv.GetValue(), alive)
	})
}

// writeChange prints what differs between two values; without alive there was none before.
func (d decoding) writeChange(p *page, c paint, before, after []byte, alive bool) {
	lines := d.lines(after)
	switch {
	case !alive:
		writeEdits(p, c, allLines('+', lines))
	case string(before) == string(after):
		p.line(c.dim("  (the same value)"))
	default:
		writeEdits(p, c, diffLines(d.lines(before), lines))
	}
}

func (v *versionPrinter) end(revision int64) error {
	if v.printed || v.json() {
		return nil
	}
	_, err := fmt.Fprintf(v.s.Stdout, "nothing is stored of this key up to revision %d\n", revision)
	return err
}

func (v *versionPrinter) jsonLine(l versionLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding a version: %w", err)
	}
	_, err = fmt.Fprintf(v.s.Stdout, "%s\n", b)
	return err
}
