package member

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ashlar-kv/ashlar/internal/auth"
)

// signedTokens are JSON web tokens. They say who has them and by which auth revision, so nobody needs to keep them; they
// end with their time or with the next change of users, roles or permissions. Every member needs the same keys.
type signedTokens struct {
	method jwt.SigningMethod
	// signing is nil when there is only a public key: then others make the tokens.
	signing, verifying any
	ttl                time.Duration
	now                func() time.Time
	parser             *jwt.Parser
}

// newSignedTokens reads options such as "pub-key=/a.pub,priv-key=/a.key,sign-method=RS512,ttl=10m". As in etcd one that is not
// known is passed over. The error wraps ErrAuthOptions.
func newSignedTokens(options string, now func() time.Time, log *slog.Logger) (*signedTokens, error) {
	given, err := parseTokenOptions(options, log)
	if err != nil {
		return nil, err
	}
	s := &signedTokens{ttl: DefaultAuthTokenTTL, now: now}
	if text, ok := given["ttl"]; ok {
		if s.ttl, err = time.ParseDuration(text); err != nil || s.ttl <= 0 {
			return nil, fmt.Errorf("%w: the ttl %q is no positive duration", ErrAuthOptions, text)
		}
	}
	if s.method = jwt.GetSigningMethod(given["sign-method"]); s.method == nil {
		return nil, fmt.Errorf("%w: the sign-method %q is not known", ErrAuthOptions, given["sign-method"])
	}
	files := make(map[string][]byte)
	for _, name := range []string{"pub-key", "priv-key"} {
		if given[name] == "" {
			continue
		}
		if files[name], err = os.ReadFile(given[name]); err != nil {
			return nil, fmt.Errorf("%w: the %s: %w", ErrAuthOptions, name, err)
		}
	}
	if err := s.readKeys(files["pub-key"], files["priv-key"]); err != nil {
		return nil, fmt.Errorf("%w: the keys for %s: %w", ErrAuthOptions, s.method.Alg(), err)
	}
	s.parser = jwt.NewParser(jwt.WithValidMethods([]string{s.method.Alg()}), jwt.WithTimeFunc(now))
	return s, nil
}

// parseTokenOptions splits the options of --auth-token, one at least.
func parseTokenOptions(options string, log *slog.Logger) (map[string]string, error) {
	given := make(map[string]string)
	for option := range strings.SplitSeq(options, ",") {
		name, value, ok := strings.Cut(option, "=")
		_, twice := given[name]
		switch {
		case !ok || strings.Contains(value, "="):
			return nil, fmt.Errorf("%w: %q is not name=value", ErrAuthOptions, option)
		case twice:
			return nil, fmt.Errorf("%w: %s is given twice", ErrAuthOptions, name)
		}
		given[name] = value
		switch name {
		case "pub-key", "priv-key", "sign-method", "ttl":
		default:
			log.Warn("an option of --auth-token is not known", "option", name)
		}
	}
	return given, nil
}

// readKeys sets the keys. A private key brings its public one; when both are given they must belong together.
func (s *signedTokens) readKeys(public, private []byte) error {
	switch s.method.(type) {
	case *jwt.SigningMethodHMAC:
		if len(private) == 0 {
			return fmt.Errorf("priv-key is missing")
		}
		s.signing, s.verifying = private, private
		return nil
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return readPair(s, public, private, jwt.ParseRSAPublicKeyFromPEM, jwt.ParseRSAPrivateKeyFromPEM)
	case *jwt.SigningMethodECDSA:
		return readPair(s, public, private, jwt.ParseECPublicKeyFromPEM, jwt.ParseECPrivateKeyFromPEM)
	case *jwt.SigningMethodEd25519:
		return readPair(s, public, private, jwt.ParseEdPublicKeyFromPEM, jwt.ParseEdPrivateKeyFromPEM)
	}
	return fmt.Errorf("this method signs nothing")
}

// readPair reads the keys of a method that has two. Each key of the standard library has the methods that are asked for.
func readPair[P, S any](s *signedTokens, public, private []byte, parsePublic func([]byte) (P, error), parsePrivate func([]byte) (S, error)) error {
	if len(public) == 0 && len(private) == 0 {
		return fmt.Errorf("both pub-key and priv-key are missing")
	}
	if len(public) > 0 {
		key, err := parsePublic(public)
		if err != nil {
			return fmt.Errorf("pub-key: %w", err)
		}
		s.verifying = key
	}
	if len(private) == 0 {
		return nil
	}
	key, err := parsePrivate(private)
	if err != nil {
		return fmt.Errorf("priv-key: %w", err)
	}
	s.signing = key
	own := any(key).(interface{ Public() crypto.PublicKey }).Public()
	if s.verifying == nil {
		s.verifying = own
	} else if !own.(interface{ Equal(crypto.PublicKey) bool }).Equal(s.verifying) {
		return fmt.Errorf("pub-key is not that of priv-key")
	}
	return nil
}

// claims are what a token says. Anyone who has the private key may make tokens, with other claims beside these.
type claims struct {
	jwt.RegisteredClaims
	Username string   `json:"username"`
	Revision *float64 `json:"revision"`
}

func (s *signedTokens) subject(_ context.Context, token string, _ uint64) (auth.Subject, error) {
	var c claims
	_, err := s.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.verifying, nil })
	if err != nil || c.Revision == nil || *c.Revision < 0 {
		return auth.Subject{}, ErrInvalidToken
	}
	return auth.Subject{User: c.Username, Revision: uint64(*c.Revision)}, nil
}

func (s *signedTokens) prefix() (string, error) { return "", nil }

func (s *signedTokens) sign(user string, revision uint64, _ string) (string, error) {
	if s.signing == nil {
		return "", fmt.Errorf("member: tokens are only verified here: there is no priv-key to sign one")
	}
	at := float64(revision)
	token, err := jwt.NewWithClaims(s.method, claims{
		RegisteredClaims: jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(s.now().Add(s.ttl))},
		Username:         user, Revision: &at,
	}).SignedString(s.signing)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}
