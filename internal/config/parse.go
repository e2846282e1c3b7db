package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

var (
	// ErrHelp is returned when the help text was asked for; see Help.
	ErrHelp = errors.New("help requested")
	// ErrVersion is returned when the version was asked for.
	ErrVersion = errors.New("version requested")
	// ErrAdvertiseClientURLs is returned when clients are listened for and not told where.
	ErrAdvertiseClientURLs = errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
)

// UsageError is returned when the command line itself cannot be read. etcd ends with status 2 and its usage
// then, and with status 1 for every other bad configuration.
type UsageError struct{ err error }

// Error returns etcd's message.
func (e *UsageError) Error() string { return e.err.Error() }

// Unwrap returns what was wrong.
func (e *UsageError) Unwrap() error { return e.err }

// Parse reads the configuration of the program of that name ("ashlar" or "etcd") from its arguments, without
// the program itself, and its environment in the form of os.Environ. It reads the configuration file if one is
// named and touches nothing else. Besides ErrHelp, ErrVersion and *UsageError it returns errors that fit on one
// line.
func Parse(program string, args, environ []string) (Config, error) {
	p := newParser(program)
	if err := p.set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return Config{}, ErrHelp
		}
		return Config{}, &UsageError{err}
	}
	if p.cfg.version {
		return Config{}, ErrVersion
	}
	if p.set.NArg() > 0 {
		return Config{}, fmt.Errorf("%q is not a valid flag", p.set.Arg(0))
	}
	if err := p.sources(environ); err != nil {
		return Config{}, err
	}
	if err := p.cfg.Validate(); err != nil {
		return Config{}, err
	}
	return p.cfg, nil
}

// parser reads one configuration. Its rows are bound to cfg.
type parser struct {
	cfg    Config
	set    *flag.FlagSet
	values map[string]value // by flag name, or by key for a setting of the file alone
}

// newParser returns a parser whose configuration holds every default.
func newParser(program string) *parser {
	p := &parser{cfg: Default(program), set: flag.NewFlagSet(program, flag.ContinueOnError), values: map[string]value{}}
	p.set.SetOutput(io.Discard)
	p.set.Usage = func() {}
	for _, f := range table {
		v := f.bind(&p.cfg)
		f.reset(v)
		p.values[f.label()] = v
		if f.Name != "" {
			p.set.Var(v, f.Name, f.Usage)
		}
	}
	for _, name := range ignored {
		p.set.Var(ignoredFlag{}, name, "ignored")
	}
	return p
}

// sources takes the settings from the file if one is named, else from flags and variables.
func (p *parser) sources(environ []string) error {
	vars := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "ETCD_") {
			vars[k] = v
		}
	}
	file := p.cfg.configFile
	if file == "" {
		file = vars["ETCD_CONFIG_FILE"]
	}
	if file != "" {
		fresh := newParser(p.cfg.Program)
		p.cfg, p.values = Config{}, fresh.values
		err := fresh.file(file)
		p.cfg = fresh.cfg
		return err
	}
	given := map[string]bool{}
	p.set.Visit(func(f *flag.Flag) {
		given[f.Name] = true
		if row, ok := rowOf(f.Name); ok {
			p.settle(row, "flag --"+f.Name)
		}
	})
	if err := p.environment(vars, given); err != nil {
		return err
	}
	if given["listen-client-urls"] && !given["advertise-client-urls"] {
		return ErrAdvertiseClientURLs
	}
	return nil
}

// environment takes the settings of variables; given gains the flags that they stand for.
func (p *parser) environment(vars map[string]string, given map[string]bool) error {
	for _, row := range table {
		name := row.Env()
		text, ok := vars[name]
		if row.Name == "" || !ok {
			continue
		}
		delete(vars, name)
		if given[row.Name] {
			return fmt.Errorf("conflicting environment variable %q is shadowed by corresponding command-line flag "+
				"(either unset environment variable or disable flag)", name)
		}
		if text == "" || row.Name == "version" || row.Name == "config-file" {
			continue
		}
		if err := p.values[row.label()].Set(text); err != nil {
			return fmt.Errorf("invalid value %q for %s: %w", text, name, err)
		}
		given[row.Name] = true
		p.note(slog.LevelInfo, "recognized and used environment variable", slog.String("variable-name", name),
			slog.String("variable-value", row.told(text)))
		p.settle(row, "variable "+name)
	}
	for _, name := range sortedKeys(vars) {
		p.note(slog.LevelWarn, "unrecognized environment variable", slog.String("environment-variable", name))
	}
	return nil
}

// settle notes what there is to say about a setting that was given from source.
func (p *parser) settle(row Flag, source string) {
	if row.idle != nil {
		if why := row.idle(&p.cfg); why != "" {
			p.note(slog.LevelWarn, "setting has no effect", slog.String("setting", source), slog.String("reason", why))
		}
	}
	if row.Note == "" || row.isDefault(p.values[row.label()]) {
		return
	}
	switch row.Status {
	case Accepted:
		p.note(slog.LevelWarn, "setting has no effect", slog.String("setting", source), slog.String("reason", row.Note))
	case Built:
		p.note(slog.LevelWarn, "setting has limits", slog.String("setting", source), slog.String("limits", row.Note))
	}
}

func (p *parser) note(level slog.Level, message string, attrs ...slog.Attr) {
	p.cfg.Notices = append(p.cfg.Notices, Notice{Level: level, Message: message, Attrs: attrs})
}

func rowOf(name string) (Flag, bool) {
	for _, f := range table {
		if f.Name == name {
			return f, true
		}
	}
	return Flag{}, false
}
