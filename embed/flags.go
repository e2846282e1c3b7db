package embed

import (
	"flag"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// AddFlags defines every flag of a member in f; parsing them changes the configuration, as Set does.
func (cfg *Config) AddFlags(f *flag.FlagSet) {
	for _, row := range config.Flags() {
		switch {
		case row.Name == "" || row.Name == "version" || row.Name == "config-file": // those are the program's
		case row.Default == "true" || row.Default == "false":
			f.BoolFunc(row.Name, row.Usage, func(text string) error { return cfg.Set(row.Name, text) })
		default:
			f.Func(row.Name, row.Usage, func(text string) error { return cfg.Set(row.Name, text) })
		}
	}
}
