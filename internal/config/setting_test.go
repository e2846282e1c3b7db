package config

import (
	"strings"
	"testing"
)

// TestEverySettingIsReadBackAsItWasSet sets each flag of one configuration to what another one has.
func TestEverySettingIsReadBackAsItWasSet(t *testing.T) {
	t.Parallel()
	for _, f := range Flags() {
		if f.Name == "" {
			continue
		}
		c := Default("etcd")
		if text := c.Text(f.Name); !f.isDefault(setTo(t, f, text)) {
			t.Errorf("--%s of the default is %q, want %q", f.Name, text, f.Default)
		}
		if err := c.Set(f.Name, c.Text(f.Name)); err != nil {
			t.Errorf("--%s: %v", f.Name, err)
		}
	}
	c := Default("etcd")
	for name, text := range map[string]string{"name": "m1", "heartbeat-interval": "250", "pre-vote": "false", "log-outputs": "stdout,a.log",
		"auto-compaction-mode": "revision", "listen-client-urls": "http://127.0.0.1:1,http://127.0.0.1:2", "quota-backend-bytes": "-1",
		"feature-gates": "CompactHashCheck=true", "max-wals": "5", "watch-progress-notify-interval": "1s", "cors": "*"} {
		if err := c.Set(name, text); err != nil {
			t.Errorf("--%s: %v", name, err)
		}
		if got := c.Text(name); got != text {
			t.Errorf("--%s is %q after it was set to %q", name, got, text)
		}
	}
}

// setTo returns a value of the flag that was set.
func setTo(t *testing.T, f Flag, text string) value {
	t.Helper()
	v := f.bind(new(Config))
	if err := v.Set(text); err != nil {
		t.Errorf("--%s to %q: %v", f.Name, text, err)
	}
	return v
}

func TestASettingThatIsWrongIsRefusedByItsName(t *testing.T) {
	t.Parallel()
	c := Default("etcd")
	for name, want := range map[string]string{"no-such-flag": "--no-such-flag is not a flag", "pre-vote": "--pre-vote", "listen-peer-urls": "--listen-peer-urls"} {
		if err := c.Set(name, "perhaps"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--%s: %v", name, err)
		}
	}
	if c.Text("no-such-flag") != "" {
		t.Error("a flag that there is not has a value")
	}
}

// TestASettingWithoutEffectIsTold: as on a command line.
func TestASettingWithoutEffectIsTold(t *testing.T) {
	t.Parallel()
	c := Default("etcd")
	if err := c.Set("max-wals", "5"); err != nil || len(c.Notices) != 0 {
		t.Errorf("its default: %v, %v", err, c.Notices)
	}
	if err := c.Set("max-wals", "7"); err != nil || len(c.Notices) != 1 || c.Notices[0].Message != "setting has no effect" {
		t.Errorf("another value: %v, %v", err, c.Notices)
	}
}
