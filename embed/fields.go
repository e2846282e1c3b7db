package embed

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// eachField calls f with a pointer to each field that stands for a flag, and the flag's name.
func (cfg *Config) eachField(f func(flag string, field any)) {
	v := reflect.ValueOf(cfg).Elem()
	for i := range v.NumField() {
		if flag := v.Type().Field(i).Tag.Get("flag"); flag != "" {
			f(flag, v.Field(i).Addr().Interface())
		}
	}
}

// fromSettings returns the configuration with these settings, which become its own.
func fromSettings(c *config.Config) *Config {
	cfg := &Config{
		base:          c,
		ClientTLSInfo: tlsInfo(&c.ClientTLS), PeerTLSInfo: tlsInfo(&c.PeerTLS),
		DiscoveryCfg: fromDiscovery(&c.Discovery),
		SocketOpts:   transport.SocketOpts{ReusePort: c.SocketReusePort, ReuseAddress: c.SocketReuseAddress},
	}
	cfg.eachField(func(flag string, field any) {
		if err := take(field, c.Text(flag)); err != nil {
			panic("embed: --" + flag + ": " + err.Error()) // its text is the table's own: a test takes all of them
		}
	})
	return cfg
}

// settings returns the settings, not yet validated. What was never touched is as it was read, without a word about it anew.
func (cfg *Config) settings() (config.Config, error) {
	c := config.Default(program)
	if cfg.base != nil {
		c = *cfg.base
		c.Notices = slices.Clone(c.Notices)
	}
	var errs []error
	cfg.eachField(func(flag string, field any) {
		text := format(field)
		if flag == "log-outputs" && len(cfg.LogOutputs) == 0 { // as in etcd, and as an empty list of the file
			text = DefaultLogOutput
		}
		if text != c.Text(flag) {
			errs = append(errs, c.Set(flag, text))
		}
	})
	// A flag with an empty list leaves the default; a field without addresses means that there are none.
	for _, list := range []struct {
		of *config.URLs
		is []url.URL
	}{
		{&c.ListenPeerURLs, cfg.ListenPeerUrls}, {&c.ListenClientURLs, cfg.ListenClientUrls},
		{&c.ListenClientHTTPURLs, cfg.ListenClientHttpUrls}, {&c.ListenMetricsURLs, cfg.ListenMetricsUrls},
		{&c.AdvertisePeerURLs, cfg.AdvertisePeerUrls}, {&c.AdvertiseClientURLs, cfg.AdvertiseClientUrls},
	} {
		if len(list.is) == 0 {
			*list.of = nil
		}
	}
	errs = append(errs, setTLS(&c.ClientTLS, &cfg.ClientTLSInfo, "ClientTLSInfo"), setTLS(&c.PeerTLS, &cfg.PeerTLSInfo, "PeerTLSInfo"))
	cfg.DiscoveryCfg.into(&c.Discovery)
	c.SocketReusePort, c.SocketReuseAddress = cfg.SocketOpts.ReusePort, cfg.SocketOpts.ReuseAddress
	return c, errors.Join(errs...)
}

// format returns a field as the text that its flag would take.
func format(field any) string {
	switch p := field.(type) {
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, ",")
	case *[]url.URL:
		return config.URLs(*p).String()
	case **FeatureGate:
		return (*p).String()
	case *map[string]struct{}:
		if len(*p) == 0 {
			return everybody
		}
		return strings.Join(slices.Sorted(maps.Keys(*p)), ",")
	default:
		return fmt.Sprint(reflect.ValueOf(field).Elem().Interface())
	}
}

// everybody is a list of hosts or origins that holds all.
const everybody = "*"

// take gives a field the value that a text stands for.
func take(field any, text string) (err error) {
	switch p := field.(type) {
	case *string:
		*p = text
	case *[]string:
		*p = words(text)
	case *map[string]struct{}:
		*p = map[string]struct{}{}
		for _, w := range strings.Split(text, ",") { // an empty text lets in nobody, an empty map everybody
			(*p)[w] = struct{}{}
		}
	case *[]url.URL:
		var us config.URLs
		us, err = config.ParseURLs(text)
		*p = us
	case **FeatureGate:
		*p = new(FeatureGate)
		err = (*p).Set(text)
	case *bool:
		*p, err = strconv.ParseBool(text)
	case *time.Duration:
		*p, err = time.ParseDuration(text)
	default:
		_, err = fmt.Sscan(text, field) // a number
	}
	return err
}

func words(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func tlsInfo(t *config.TLS) transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: t.Cert, KeyFile: t.Key, ClientCertFile: t.ClientCert, ClientKeyFile: t.ClientKey, TrustedCAFile: t.CA, CRLFile: t.CRL,
		ClientCertAuth: t.ClientCertAuth, AllowedCNs: t.AllowedCN, AllowedHostnames: t.AllowedHostname, SkipClientSANVerify: t.SkipClientSAN,
	}
}

// setTLS takes what info says. It refuses what would otherwise have no effect.
func setTLS(t *config.TLS, info *transport.TLSInfo, where string) error {
	for _, x := range []struct {
		name  string
		given bool
	}{
		{"InsecureSkipVerify", info.InsecureSkipVerify}, {"ServerName", info.ServerName != ""},
		{"HandshakeFailure", info.HandshakeFailure != nil}, {"CipherSuites", len(info.CipherSuites) > 0},
		{"MinVersion", info.MinVersion != 0}, {"MaxVersion", info.MaxVersion != 0},
		{"EmptyCN", info.EmptyCN}, {"LocalAddr", info.LocalAddr != ""},
	} {
		if x.given {
			return fmt.Errorf("%s.%s has no meaning here; see the other fields of Config", where, x.name)
		}
	}
	//lint:ignore SA1019 programs still set the old fields, and a name that is not looked at would let everybody in
	cn, hostname := names(info.AllowedCNs, info.AllowedCN), names(info.AllowedHostnames, info.AllowedHostname)
	*t = config.TLS{
		Cert: info.CertFile, Key: info.KeyFile, ClientCert: info.ClientCertFile, ClientKey: info.ClientKeyFile, CA: info.TrustedCAFile,
		CRL: info.CRLFile, ClientCertAuth: info.ClientCertAuth, SkipClientSAN: info.SkipClientSANVerify, Auto: t.Auto,
		AllowedCN: cn, AllowedHostname: hostname,
	}
	return nil
}

// names adds the one name of an old field to those of the new one.
func names(many []string, one string) []string {
	if one == "" || slices.Contains(many, one) {
		return many
	}
	return append(slices.Clone(many), one)
}
