package server

import (
	"io"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
)

// LogOptions says how the log that cfg asks for is opened.
func LogOptions(cfg *config.Config, stdout, stderr io.Writer) logging.Options {
	o := logging.Options{Outputs: cfg.LogOutputs, Level: cfg.LogLevel, Console: cfg.LogFormat == "console",
		Stdout: stdout, Stderr: stderr}
	if r := cfg.LogRotation; r != nil {
		o.Rotation = &logging.Rotation{MaxSize: r.MaxSize, MaxAge: r.MaxAge, MaxBackups: r.MaxBackups,
			LocalTime: r.LocalTime, Compress: r.Compress}
	}
	return o
}
