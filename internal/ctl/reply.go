package ctl

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// reply is one answer in the forms it can be printed in. A nil form is one that it cannot.
type reply struct {
	simple func(*page)
	fields func(*page)
	// json is encoded by encoding/json.
	json any
	// protobuf is written as on the wire, without an end.
	protobuf proto.Message
	table    func() *table
}

// printer writes replies in one format.
type printer interface {
	print(p *page, r reply) error
}

// printers holds the formats of --write-out.
var printers = map[string]printer{
	"simple":   simplePrinter{},
	"fields":   fieldsPrinter{},
	"json":     jsonPrinter{},
	"protobuf": protobufPrinter{},
	"table":    tablePrinter{},
}

func notSupported(format string) error {
	return badFeature("%s not supported as output format", format)
}

// simplePrinter writes bare values, one a line.
type simplePrinter struct{}

func (simplePrinter) print(p *page, r reply) error {
	if r.simple == nil {
		return notSupported("simple")
	}
	return p.buffered(r.simple)
}

// fieldsPrinter writes "Name" : value, one a line.
type fieldsPrinter struct{}

func (fieldsPrinter) print(p *page, r reply) error {
	if r.fields == nil {
		return notSupported("fields")
	}
	return p.buffered(r.fields)
}

// jsonPrinter writes one line of JSON.
type jsonPrinter struct{}

func (jsonPrinter) print(p *page, r reply) error {
	if r.json == nil {
		return notSupported("json")
	}
	text, err := json.Marshal(r.json)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	_, err = fmt.Fprintf(p, "%s\n", text)
	return err
}

// protobufPrinter writes the encoded message.
type protobufPrinter struct{}

func (protobufPrinter) print(p *page, r reply) error {
	if r.protobuf == nil {
		return notSupported("protobuf")
	}
	b, err := proto.Marshal(r.protobuf)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	_, err = p.Write(b)
	return err
}

// tablePrinter draws a table.
type tablePrinter struct{}

func (tablePrinter) print(p *page, r reply) error {
	if r.table == nil {
		return notSupported("table")
	}
	return p.buffered(func(p *page) { r.table().draw(p) })
}
