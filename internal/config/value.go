package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value reads one setting from text (a flag or a variable) and from the file, and prints it.
// It implements flag.Value.
type value interface {
	Set(text string) error
	String() string
	// IsBoolFlag tells package flag that the flag may stand without a value.
	IsBoolFlag() bool
	// setFile takes the JSON form of what the configuration file holds.
	setFile(raw json.RawMessage) error
}

// The messages of package flag, whose types etcd uses for its plain flags.
var (
	errParse = errors.New("parse error")
	errRange = errors.New("value out of range")
)

// setting is a value of type T at p.
type setting[T any] struct {
	p      *T
	parse  func(string) (T, error)
	format func(T) string
	// file reads the JSON form; nil means that the file holds the same text as the flag.
	file   func(json.RawMessage) (T, error)
	isBool bool
}

func (s setting[T]) Set(text string) error {
	v, err := s.parse(text)
	if err == nil {
		*s.p = v
	}
	return err
}

func (s setting[T]) String() string {
	if s.p == nil { // package flag asks a zero value
		return ""
	}
	return s.format(*s.p)
}

func (s setting[T]) IsBoolFlag() bool { return s.isBool }

func (s setting[T]) setFile(raw json.RawMessage) error {
	if s.file == nil {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf("want a text, got %s", raw)
		}
		if text == "" { // as in etcd: an empty text in the file leaves the default
			return nil
		}
		return s.Set(text)
	}
	v, err := s.file(raw)
	if err == nil {
		*s.p = v
	}
	return err
}

// fromJSON reads a JSON value of type T and names the wanted kind when it is another one.
func fromJSON[T any](want string) func(json.RawMessage) (T, error) {
	return func(raw json.RawMessage) (T, error) {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return v, fmt.Errorf("want %s, got %s", want, raw)
		}
		return v, nil
	}
}

func text(p *string) value {
	same := func(s string) string { return s }
	return setting[string]{p: p, parse: func(s string) (string, error) { return s, nil }, format: same,
		file: fromJSON[string]("a text")}
}

func boolean(p *bool) value {
	return setting[bool]{p: p, isBool: true, format: strconv.FormatBool, file: fromJSON[bool]("true or false"),
		parse: func(s string) (bool, error) {
			v, err := strconv.ParseBool(s)
			if err != nil {
				return v, errParse
			}
			return v, nil
		}}
}

// plain turns an error of strconv into what package flag reports for its own types.
func plain(err error) error {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errRange
	case err != nil:
		return errParse
	}
	return nil
}

func unsigned[T uint | uint64](p *T) value {
	return setting[T]{p: p, format: func(v T) string { return strconv.FormatUint(uint64(v), 10) },
		file: fromJSON[T]("a whole number that is not negative"),
		parse: func(s string) (T, error) {
			v, err := strconv.ParseUint(s, 0, 64)
			return T(v), plain(err)
		}}
}

func unsigned32(p *uint32) value {
	return setting[uint32]{p: p, format: func(v uint32) string { return strconv.FormatUint(uint64(v), 10) },
		file: fromJSON[uint32]("a whole number of 32 bits that is not negative"),
		parse: func(s string) (uint32, error) {
			v, err := strconv.ParseUint(s, 0, 32)
			return uint32(v), err
		}}
}

func integer[T int | int64](p *T) value {
	return setting[T]{p: p, format: func(v T) string { return strconv.FormatInt(int64(v), 10) },
		file: fromJSON[T]("a whole number"),
		parse: func(s string) (T, error) {
			v, err := strconv.ParseInt(s, 0, 64)
			return T(v), plain(err)
		}}
}

func duration(p *time.Duration) value {
	return setting[time.Duration]{p: p, format: time.Duration.String,
		file: fromJSON[time.Duration]("a whole number of nanoseconds"),
		parse: func(s string) (time.Duration, error) {
			v, err := time.ParseDuration(s)
			if err != nil {
				return v, errParse
			}
			return v, nil
		}}
}

// milliseconds is a duration that flags, variables and the file give as a number of milliseconds.
func milliseconds(p *time.Duration) value {
	return setting[time.Duration]{p: p,
		format: func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) },
		file: func(raw json.RawMessage) (time.Duration, error) {
			n, err := fromJSON[uint64]("a whole number of milliseconds")(raw)
			return atMost(n), err
		},
		parse: func(s string) (time.Duration, error) {
			n, err := strconv.ParseUint(s, 0, 64)
			return atMost(n), plain(err)
		}}
}

// atMost is a number of milliseconds, or the longest duration there is.
func atMost(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// urls is a list of addresses. An empty text leaves it as it is, as in etcd.
func urls(p *URLs) value {
	return setting[URLs]{p: p, format: URLs.String, parse: func(s string) (URLs, error) {
		if s == "" {
			return *p, nil
		}
		return ParseURLs(s)
	}}
}

// words is a list separated by commas; the file may also hold a YAML list.
func words(p *[]string) value {
	split := func(s string) ([]string, error) {
		var out []string
		for _, w := range strings.Split(s, ",") {
			if w = strings.TrimSpace(w); !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
		return out, nil
	}
	return setting[[]string]{p: p, parse: split, format: func(v []string) string { return strings.Join(v, ",") },
		file: func(raw json.RawMessage) ([]string, error) {
			var one string
			if json.Unmarshal(raw, &one) == nil {
				if one == "" { // as in etcd: an empty text in the file leaves the default
					return *p, nil
				}
				return split(one)
			}
			list, err := fromJSON[[]string]("a list of texts")(raw)
			if err != nil {
				return nil, err
			}
			if len(list) == 0 { // so does an empty list
				return *p, nil
			}
			return split(strings.Join(list, ","))
		}}
}

// names is a list of names of which a certificate must hold one. Given without a name it lets in nobody, as in etcd; a list of the file that
// holds nothing at all is none.
func names(p *[]string) value {
	v := words(p).(setting[[]string])
	split := v.parse
	v.parse = func(s string) ([]string, error) {
		list, err := split(s)
		if list = slices.DeleteFunc(list, func(name string) bool { return name == "" }); len(list) == 0 {
			list = []string{""}
		}
		return list, err
	}
	v.file = func(raw json.RawMessage) ([]string, error) {
		var one string
		if json.Unmarshal(raw, &one) == nil {
			return v.parse(one)
		}
		list, err := fromJSON[[]string]("a list of texts")(raw)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return v.parse(strings.Join(list, ","))
	}
	return v
}

// choice is a text that must be one of a few; describe makes the error for another one.
func choice(p *string, describe func(string) error, allowed ...string) setting[string] {
	return setting[string]{p: p, format: func(s string) string { return s }, parse: func(s string) (string, error) {
		if !slices.Contains(allowed, s) {
			return "", describe(s)
		}
		return s, nil
	}}
}

// orAnything lets the file hold any text for s; an empty one leaves it as it is. Validate has the last word.
func orAnything(s setting[string]) value {
	s.file = func(raw json.RawMessage) (string, error) {
		v, err := fromJSON[string]("a text")(raw)
		if v == "" {
			v = *s.p
		}
		return v, err
	}
	return s
}

// origins is a list of URLs, or * for any; an empty text is refused, and in the file leaves the default, as in etcd.
func origins(p *[]string) value {
	return setting[[]string]{p: p, format: func(l []string) string { return strings.Join(l, ",") }, parse: func(s string) ([]string, error) {
		switch s {
		case "*":
			return []string{s}, nil
		case "":
			_, err := parseURL(s)
			return nil, err
		}
		us, err := ParseURLs(s)
		return us.Strings(), err
	}}
}

// spare binds a setting that no field of Config carries: it is parsed, checked and then only compared with
// its default.
func spare[T any](make func(*T) value) func(*Config) value {
	return func(*Config) value { return make(new(T)) }
}
