package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// duFlags are the flags of du.
type duFlags struct {
	depth     int
	separator string
	revision  int64
	human     bool
}

// duDepthMax bounds the memory: there is one sum a level.
const duDepthMax = 64

func (s *session) duCommand() *cobra.Command {
	var f duFlags
	c := &cobra.Command{Use: "du [options] [prefix]", Short: "Prints how many keys and bytes are below each prefix",
		Long: "Prints, as du does for directories, keys and bytes (of keys and values, without history) below each prefix of up to\n" +
			"--depth levels, a prefix after those below it. All is read as of one revision, a page at a time."}
	c.RunE = s.run(func(ctx context.Context, args []string) error {
		if len(args) > 1 {
			return badArguments("du needs at most one argument, a prefix")
		}
		if f.depth < 0 || f.depth > duDepthMax {
			return badArguments("--depth is 0 to %d", duDepthMax)
		}
		if f.separator == "" {
			return badArguments("--separator is empty")
		}
		if err := s.forms("simple", "json"); err != nil {
			return err
		}
		return s.du(ctx, &f, strings.Join(args, ""))
	})
	set := c.Flags()
	set.IntVar(&f.depth, "depth", 2, "how many levels below the prefix are told apart (0: only the sum)")
	set.StringVar(&f.separator, "separator", "/", "what ends a level")
	set.Int64Var(&f.revision, "rev", 0, "read as of this revision (0: the newest)")
	set.BoolVar(&f.human, "human", false, "bytes with units; on a terminal this is so anyway")
	return c
}

func (s *session) du(ctx context.Context, f *duFlags, prefix string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	n := s.scanPrefix(c, prefix, f.revision)
	bar := s.startProgress(keyCount, 0)
	sums := &prefixSums{depth: f.depth, separator: []byte(f.separator), root: prefix, out: func(l usageLine) error {
		bar.End()
		return s.printUsage(f, l)
	}}
	for {
		kv, err := n.next(ctx)
		if err != nil {
			bar.End()
			return err
		}
		if kv == nil {
			return sums.end()
		}
		bar.Expect(n.count)
		bar.Add(1)
		if err := sums.add(kv); err != nil {
			return err
		}
	}
}

// usageLine is the sum of a prefix.
type usageLine struct {
	Prefix      string
	Keys, Bytes int64
}

func (s *session) printUsage(f *duFlags, l usageLine) error {
	if s.settings.format == "json" {
		return json.NewEncoder(s.Stdout).Encode(struct {
			Prefix []byte `json:"prefix"` // base64
			Keys   int64  `json:"keys"`
			Bytes  int64  `json:"bytes"`
		}{[]byte(l.Prefix), l.Keys, l.Bytes})
	}
	size := fmt.Sprint(l.Bytes)
	if f.human || progress.IsTerminal(s.Stdout) {
		size = progress.Bytes(l.Bytes)
	}
	name := shown([]byte(l.Prefix))
	if l.Prefix == "" {
		name = "(all)"
	}
	_, err := fmt.Fprintf(s.Stdout, "%12s  %10d  %s\n", size, l.Keys, s.paint().cyan(name))
	return err
}

// prefixSums adds up keys that come in their order. It holds one sum for each level of the key read last.
type prefixSums struct {
	root      string
	separator []byte
	depth     int
	out       func(usageLine) error

	open  []usageLine // the prefixes of the last key, outermost first
	total usageLine
}

func (p *prefixSums) add(kv *mvccpb.KeyValue) error {
	levels := p.levels(kv.GetKey())
	same := 0
	for same < len(levels) && same < len(p.open) && levels[same] == p.open[same].Prefix {
		same++
	}
	if err := p.close(same); err != nil {
		return err
	}
	for _, l := range levels[same:] {
		p.open = append(p.open, usageLine{Prefix: l})
	}
	size := int64(len(kv.GetKey()) + len(kv.GetValue()))
	for i := range p.open {
		p.open[i].Keys++
		p.open[i].Bytes += size
	}
	p.total.Keys++
	p.total.Bytes += size
	return nil
}

// levels returns the prefixes of a key that end with a separator, below the root.
func (p *prefixSums) levels(key []byte) []string {
	var out []string
	at := len(p.root)
	for len(out) < p.depth {
		// A separator at the very beginning of what is left names nothing: /a/b is a/ below /.
		skip := 0
		if at == 0 && bytes.HasPrefix(key, p.separator) {
			skip = len(p.separator)
		}
		i := bytes.Index(key[at+skip:], p.separator)
		if i < 0 {
			break
		}
		at += skip + i + len(p.separator)
		out = append(out, string(key[:at]))
	}
	return out
}

// close prints the sums of all but the first levels, innermost first.
func (p *prefixSums) close(keep int) error {
	for len(p.open) > keep {
		last := len(p.open) - 1
		if err := p.out(p.open[last]); err != nil {
			return err
		}
		p.open = p.open[:last]
	}
	return nil
}

func (p *prefixSums) end() error {
	if err := p.close(0); err != nil {
		return err
	}
	p.total.Prefix = p.root
	return p.out(p.total)
}
