package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeysAndValuesSurviveAsLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := append([]byte("k"), rapid.SliceOf(rapid.Byte()).Draw(t, "key")...)
		value := rapid.SliceOf(rapid.Byte()).Draw(t, "value")
		if rapid.Bool().Draw(t, "text") {
			value = []byte(rapid.String().Draw(t, "words"))
		}
		var l exportKey
		l.setKey(key)
		l.setValue(value)
		b, err := json.Marshal(l)
		if err != nil || bytes.ContainsRune(b, '\n') {
			t.Fatalf("%s, %v", b, err)
		}
		back, err := newExportReader(bytes.NewReader(append(b, '\n'))).next()
		if err != nil {
			t.Fatal(err)
		}
		gotKey, err := back.key()
		if err != nil || !bytes.Equal(gotKey, key) {
			t.Fatalf("got key %q, %v, want %q", gotKey, err, key)
		}
		gotValue, err := back.value()
		if err != nil || !bytes.Equal(gotValue, value) {
			t.Fatalf("got value %q, %v, want %q", gotValue, err, value)
		}
	})
}

func TestLinesHaveALimit(t *testing.T) {
	t.Parallel()
	// Endless lines are refused before they are in memory.
	endless := io.MultiReader(strings.NewReader(`{"key":"`), io.LimitReader(zeros{}, exportLineMax+2))
	if _, err := newExportReader(endless).next(); err == nil || !strings.Contains(err.Error(), "line 1 is longer than") {
		t.Errorf("got %v", err)
	}
}

// zeros are digits without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

func TestOffsetsAreThoseOfWholeLines(t *testing.T) {
	t.Parallel()
	r := newExportReader(strings.NewReader("{\"format\":\"ashlar-export/1\"}\n\n{\"key\":\"a\",\"value\":\"b\"}\n{\"key\":"))
	if _, err := r.header(); err != nil {
		t.Fatal(err)
	}
	if l, err := r.next(); err != nil || !l.isKey() || r.line != 3 || r.offset != 54 {
		t.Errorf("got %+v, %v, line %d, offset %d", l, err, r.line, r.offset)
	}
	if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) || r.offset != 54 {
		t.Errorf("got %v, offset %d", err, r.offset)
	}
}

func TestTheEndOfAnExport(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"":                              false,
		"{\"end\":true,\"keys\":3}\n":   true,
		"x\n{\"end\":true}\n\n":         true,
		"{\"end\":true,\"keys\":3}":     false, // perhaps of 30
		"{\"end\":true}\n{\"key\":1}\n": false,
		"{\"end\":false}\n":             false,
	} {
		if got := endsExport([]byte(text)); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func FuzzExportReader(f *testing.F) {
	f.Add([]byte("{\"format\":\"ashlar-export/1\",\"revision\":1}\n{\"key\":\"a\",\"value64\":\"/w==\"}\n{\"lease\":\"1\",\"granted_ttl\":1}\n{\"end\":true,\"keys\":1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newExportReader(bytes.NewReader(b))
		if _, err := r.header(); err != nil {
			return
		}
		for {
			l, err := r.next()
			if err != nil {
				break
			}
			if l.isKey() {
				l.key()
				l.value()
			}
		}
		if r.offset > int64(len(b)) {
			t.Errorf("offset %d of %d", r.offset, len(b))
		}
	})
}
