package config

import "fmt"

// Set gives the setting of a flag, named without dashes, the value that the text would have on a command line; "" for cors lets in no page. Validate is to
// be called after the last one. Errors name the flag.
func (c *Config) Set(name, text string) error {
	row, ok := rowOf(name)
	if !ok {
		return fmt.Errorf("--%s is not a flag", name)
	}
	if name == "cors" && text == "" { // no page at all, which a command line, as etcd's, cannot say
		c.Origins = []string{""}
		return nil
	}
	v := row.bind(c)
	if err := v.Set(text); err != nil {
		return fmt.Errorf("invalid value %q for --%s: %w", text, name, err)
	}
	p := parser{cfg: *c, values: map[string]value{row.label(): v}}
	p.settle(row, "flag --"+name)
	c.Notices = p.cfg.Notices
	return nil
}

// Text returns the value of a flag's setting as text that Set takes; the default where no field of Config holds it, since the
// setting has no effect. It returns "" for a name that is not a flag's.
func (c *Config) Text(name string) string {
	row, ok := rowOf(name)
	if !ok {
		return ""
	}
	probe := new(Config)
	if v := row.bind(probe); v.Set(row.Default) != nil || v.String() != row.bind(probe).String() {
		return row.Default // it went nowhere
	}
	return row.bind(c).String()
}
