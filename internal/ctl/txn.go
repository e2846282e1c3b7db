package ctl

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (s *session) txnCommand() *cobra.Command {
	var interactive bool
	c := &cobra.Command{Use: "txn [options]", Short: "Runs a transaction read from standard input",
		Long: "Txn reads a transaction from standard input: comparisons, what to do if all are true, and what to do otherwise,\n" +
			"a line each and an empty line after each of the three parts.\n\n" +
			"  mod(\"key1\") > \"0\"\n\n  put key1 \"overwritten\"\n  get key1\n\n  put key1 \"created\"\n\n",
		RunE: s.run(func(ctx context.Context, args []string) error { return s.txn(ctx, args, interactive) })}
	c.Flags().BoolVarP(&interactive, "interactive", "i", false, "say what is to be typed")
	return c
}

// parts of a transaction, in the order they are read in.
var txnPrompts = [3]string{"compares:", "success requests (get, put, del):", "failure requests (get, put, del):"}

func (s *session) txn(ctx context.Context, args []string, interactive bool) error {
	if len(args) != 0 {
		return badArguments("txn command does not accept argument")
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	var compares []clientv3.Cmp
	var branches [2][]clientv3.Op
	for part, prompt := range txnPrompts {
		if interactive {
			fmt.Fprintln(s.Stdout, prompt)
		}
		err := eachLine(s.input, func(line string) error {
			if part == 0 {
				cmp, err := parseCompare(line)
				compares = append(compares, cmp)
				return err
			}
			op, err := s.parseOperation(line)
			branches[part-1] = append(branches[part-1], op)
			return err
		})
		if err != nil {
			return err
		}
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	answer, err := c.Txn(ctx).If(compares...).Then(branches[0]...).Else(branches[1]...).Commit()
	if err != nil {
		return err
	}
	return s.print(txnReply((*pb.TxnResponse)(answer)))
}

// eachLine calls use with every line up to the next empty one.
func eachLine(input *bufio.Reader, use func(string) error) error {
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return fail(statusInput, err)
		}
		if line = strings.TrimSpace(line); line == "" {
			return nil
		}
		if err := use(line); err != nil {
			return err
		}
	}
}

// parseOperation reads a line such as `get key --prefix`.
func (s *session) parseOperation(line string) (clientv3.Op, error) {
	all := words(line)
	if len(all) == 0 { // a quote alone
		return clientv3.Op{}, badInput("invalid txn request: %s", line)
	}
	var get getFlags
	var put putFlags
	var del delFlags
	set := pflag.NewFlagSet(all[0], pflag.ContinueOnError)
	set.SetOutput(s.Stderr)
	switch all[0] {
	case "get":
		get.define(set)
	case "put":
		put.define(set)
	case "del":
		del.define(set)
	default:
		return clientv3.Op{}, badInput("invalid txn request: %s", line)
	}
	set.Usage = func() {}
	if err := set.Parse(all[1:]); err != nil {
		fmt.Fprintf(s.Stderr, "Usage:\n  %s in a transaction, with these flags:\n\n%s\n", all[0], set.FlagUsages())
		return clientv3.Op{}, fail(statusInput, err)
	}
	args := set.Args()
	if len(args) == 0 {
		return clientv3.Op{}, badInput("invalid txn compare request: %s", line)
	}
	switch all[0] {
	case "put":
		return put.operation(args, nil)
	case "del":
		return del.operation(args)
	}
	key, options, err := get.operation(args)
	return clientv3.OpGet(key, options...), err
}

// txnReply prints the replies of all operations; the JSON form puts each under its kind.
func txnReply(r *pb.TxnResponse) reply {
	return reply{json: txnJSONOf(r), protobuf: r,
		simple: func(p *page) {
			if r.GetSucceeded() {
				p.line("SUCCESS")
			} else {
				p.line("FAILURE")
			}
			for _, op := range r.GetResponses() {
				p.line()
				operationReply(op).simple(p)
			}
		},
		fields: func(p *page) {
			p.header(r.GetHeader())
			p.field("Succeeded", r.GetSucceeded())
			for _, op := range r.GetResponses() {
				operationReply(op).fields(p)
			}
		},
	}
}

func operationReply(op *pb.ResponseOp) reply {
	switch {
	case op.GetResponseRange() != nil:
		return getReply(op.GetResponseRange(), false)
	case op.GetResponsePut() != nil:
		return putReply(op.GetResponsePut())
	case op.GetResponseDeleteRange() != nil:
		return delReply(op.GetResponseDeleteRange())
	case op.GetResponseTxn() != nil:
		return txnReply(op.GetResponseTxn())
	}
	unknown := func(p *page) { p.printf("unexpected response %v\n", op) }
	return reply{simple: unknown, fields: unknown}
}

// txnJSON spells a transaction's answer as etcdctl does: encoding/json alone cannot name the kinds of a oneof.
type txnJSON struct {
	Header    *pb.ResponseHeader `json:"header,omitempty"`
	Succeeded bool               `json:"succeeded,omitempty"`
	Responses []operationJSON    `json:"responses,omitempty"`
}

type operationJSON struct {
	Response struct {
		Range       *pb.RangeResponse       `json:"response_range,omitempty"`
		Put         *pb.PutResponse         `json:"response_put,omitempty"`
		DeleteRange *pb.DeleteRangeResponse `json:"response_delete_range,omitempty"`
		Txn         *txnJSON                `json:"response_txn,omitempty"`
	} `json:"Response"`
}

func txnJSONOf(r *pb.TxnResponse) *txnJSON {
	if r == nil {
		return nil
	}
	t := &txnJSON{Header: r.GetHeader(), Succeeded: r.GetSucceeded()}
	for _, op := range r.GetResponses() {
		var o operationJSON
		o.Response.Range, o.Response.Put = op.GetResponseRange(), op.GetResponsePut()
		o.Response.DeleteRange, o.Response.Txn = op.GetResponseDeleteRange(), txnJSONOf(op.GetResponseTxn())
		t.Responses = append(t.Responses, o)
	}
	return t
}
