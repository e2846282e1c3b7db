package config

import (
	"errors"
	"math"
)

// auditFlags are settings of the audit log, which etcd does not have.
var auditFlags = []Flag{
	{Name: "audit-log-file", Group: Audit, Key: "audit-log-file",
		Usage: "Write who asks for what into this file, one JSON object a line; empty writes nothing.",
		bind:  func(c *Config) value { return text(&c.AuditLog.File) }},
	{Name: "audit-log-reads", Group: Audit, Key: "audit-log-reads", Default: "true",
		Usage: "Write reads, too; those that are refused are written in any case.",
		bind:  func(c *Config) value { return boolean(&c.AuditLog.Reads) }},
	{Name: "audit-log-max-size", Group: Audit, Key: "audit-log-max-size", Default: "100",
		Usage: "Size in megabytes at which the file becomes FILE.1 and a new one begins.",
		bind:  func(c *Config) value { return unsigned(&c.AuditLog.MaxSize) }},
	{Name: "audit-log-max-backups", Group: Audit, Key: "audit-log-max-backups", Default: "10",
		Usage: "Number of full files that are kept, FILE.1 to FILE.N; 1000 at most.",
		bind:  func(c *Config) value { return unsigned(&c.AuditLog.MaxBackups) }},
}

// AuditLog says where requests are written down.
type AuditLog struct {
	// File is the path, empty for none.
	File string
	// Reads says whether reads that succeed are written down.
	Reads bool
	// MaxSize is the size of a file in megabytes, and MaxBackups the number of full ones that are kept.
	MaxSize, MaxBackups uint
}

// auditBackupsMax bounds the files that one rotation renames.
const auditBackupsMax = 1000

func (c *Config) checkAudit() error {
	switch a := c.AuditLog; {
	case a.MaxSize == 0 || a.MaxSize > math.MaxInt32:
		return errors.New("--audit-log-max-size must be a number of megabytes above 0")
	case a.MaxBackups > auditBackupsMax:
		return errors.New("--audit-log-max-backups must be 1000 at most")
	}
	return nil
}
