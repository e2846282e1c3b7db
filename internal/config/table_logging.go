package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

const defaultRotation = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`

// journalOutput is the log output that is systemd's journal.
const journalOutput = "systemd/journal"

var loggingFlags = []Flag{
	{Name: "logger", Group: Logging, Key: "logger", Default: "zap",
		Usage: "Accepts etcd's only value, 'zap'; the log has its shape.",
		bind:  func(c *Config) value { return text(&c.logger) }},
	{Name: "log-outputs", Group: Logging, Key: "log-outputs", Default: "default",
		Usage: "Where the log goes: 'stdout', 'stderr', 'systemd/journal' or files, separated by commas; 'default' is stderr.",
		bind:  func(c *Config) value { return words(&c.LogOutputs) }},
	{Name: "log-level", Group: Logging, Key: "log-level", Default: "info",
		Usage: "Least level that is logged: debug, info, warn, error, panic or fatal.",
		bind: func(c *Config) value {
			unknown := func(s string) error { return fmt.Errorf("unrecognized level: %q", s) }
			return choice(&c.LogLevel, unknown, "", "debug", "info", "warn", "error", "dpanic", "panic", "fatal",
				"DEBUG", "INFO", "WARN", "ERROR", "DPANIC", "PANIC", "FATAL")
		}},
	{Name: "log-format", Group: Logging, Key: "log-format", Default: "json",
		Usage: "'json' or 'console'.",
		bind:  func(c *Config) value { return text(&c.LogFormat) }},
	{Name: "enable-log-rotation", Group: Logging, Key: "enable-log-rotation", Default: "false",
		Usage: "Rotate the log file; --log-outputs must then be one file.",
		bind:  func(c *Config) value { return boolean(&c.enableLogRotation) }},
	{Name: "log-rotation-config-json", Group: Logging, Key: "log-rotation-config-json", Default: defaultRotation,
		Usage: "How the log file is rotated: maxsize in megabytes, maxage in days, maxbackups, localtime, compress.",
		bind:  func(c *Config) value { return text(&c.logRotationJSON) }},
	{Name: "warning-unary-request-duration", Group: Logging, Key: "warning-unary-request-duration", Default: "300ms",
		Usage: "Time of one request above which a warning is logged.",
		bind:  func(c *Config) value { return duration(&c.WarningUnaryRequestDuration) }},
}

var hiddenFlags = []Flag{
	{Name: "config-file", Group: Hidden, Usage: "Configuration file.",
		bind: func(c *Config) value { return text(&c.configFile) }},
	{Name: "version", Group: Hidden, Default: "false", Usage: "Print the version.",
		bind: func(c *Config) value { return boolean(&c.version) }},
}

// checkLogging checks the settings of the log and fills in LogRotation and, as in etcd, a level and a format that are empty. The messages
// are etcd's.
func (c *Config) checkLogging() error {
	switch c.logger {
	case "", "zap":
	case "capnslog":
		return errors.New("--logger=capnslog is removed in v3.5")
	default:
		return fmt.Errorf("unknown logger option %q", c.logger)
	}
	if c.LogFormat == "" {
		c.LogFormat = "json"
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	if c.LogFormat != "json" && c.LogFormat != "console" {
		return fmt.Errorf("unknown log format: %s, supported values json, console", c.LogFormat)
	}
	if len(c.LogOutputs) == 0 || slices.Contains(c.LogOutputs, "") {
		return errors.New("--log-outputs holds an empty output")
	}
	if len(c.LogOutputs) > 1 && slices.Contains(c.LogOutputs, "default") {
		return errors.New(`multi logoutput for "default" is not supported yet`)
	}
	if len(c.LogOutputs) > 1 && slices.Contains(c.LogOutputs, journalOutput) {
		return fmt.Errorf("running with systemd/journal but other '--log-outputs' values (%q) are configured with 'default'; "+
			"override 'default' value with something else", slices.Sorted(slices.Values(c.LogOutputs)))
	}
	c.LogRotation = nil
	if !c.enableLogRotation {
		return nil
	}
	return c.checkRotation()
}

// ErrRotationOutput is returned when the log is to be rotated and is not one file.
var ErrRotationOutput = errors.New("--log-outputs requires a single file path when --log-rotate-config-json is defined")

func (c *Config) checkRotation() error {
	files := 0
	for _, o := range c.LogOutputs {
		if o != "default" && o != "stdout" && o != "stderr" && o != journalOutput {
			files++
		}
	}
	if files != 1 {
		return ErrRotationOutput
	}
	var r LogRotation
	err := json.Unmarshal([]byte(c.logRotationJSON), &r)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("improperly formatted log rotation config: %w", err)
	case err != nil:
		return fmt.Errorf("invalid log rotation config: %w", err)
	}
	c.LogRotation = &r
	return nil
}
