package config

import (
	"strings"
	"testing"
)

func TestTheAuditLogHasLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		says string
		args []string
		want AuditLog
		err  string
	}{
		{"nothing is written without a file", nil, AuditLog{Reads: true, MaxSize: 100, MaxBackups: 10}, ""},
		{"all of it", []string{"--audit-log-file=a", "--audit-log-reads=false", "--audit-log-max-size=1", "--audit-log-max-backups=0"},
			AuditLog{File: "a", MaxSize: 1}, ""},
		{"files without a size", []string{"--audit-log-max-size=0"}, AuditLog{}, "above 0"},
		{"too many files", []string{"--audit-log-max-backups=1001"}, AuditLog{}, "1000 at most"},
	} {
		got, err := Parse("ashlar", c.args, nil)
		switch {
		case c.err == "" && (err != nil || got.AuditLog != c.want):
			t.Errorf("%s: %+v, %v", c.says, got.AuditLog, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v", c.says, err)
		}
	}
}
