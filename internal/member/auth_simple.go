package member

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/clock"
)

// DefaultAuthTokenTTL is how long a simple token that nobody uses is good for when Config does not say.
const DefaultAuthTokenTTL = 5 * time.Minute

// prefixLettersMin is the least length of a simple token before its index: that of etcd's. Ours are longer.
const prefixLettersMin = 16

// simpleTokensMax bounds the tokens that are kept. Above it the longest unused ones end early: some hundred bytes each would
// else be as many as clients log in.
const simpleTokensMax = 1 << 20

// simpleTokens are the tokens that this member saw assigned by the log since it started. A token is random letters and an
// index. It ends when it was not used here for the time to live, which is each member's
// own affair, and when the log ends it.
type simpleTokens struct {
	clock clock.Clock
	begun time.Time // from when on time is counted, by a clock that nobody sets
	ttl   time.Duration
	max   int
	// applied is an index up to which all is applied here, with the tokens that it assigned, and catchUp returns once all that is committed is.
	applied func() uint64
	catchUp func(context.Context) error

	mu     sync.RWMutex
	byText map[string]*simpleToken
	byUser map[string]map[string]struct{} // the texts of each user
}

// simpleToken is a token that is kept.
type simpleToken struct {
	user string
	used atomic.Int64 // when it was last used, as simpleTokens.now says
}

func newSimpleTokens(m *Member) *simpleTokens {
	ttl := m.cfg.AuthTokenTTL
	if ttl <= 0 {
		ttl = DefaultAuthTokenTTL
	}
	return &simpleTokens{
		clock: m.cfg.Clock, begun: m.cfg.Clock.Now(), ttl: ttl, max: simpleTokensMax,
		applied: func() uint64 { return m.node.Applied() }, // the store is further for a moment
		catchUp: m.ReadBarrier,
		byText:  make(map[string]*simpleToken), byUser: make(map[string]map[string]struct{}),
	}
}

func (s *simpleTokens) subject(ctx context.Context, token string, revision uint64) (auth.Subject, error) {
	applied := s.applied() // first: it may be assigned after it was looked for
	user, ok := s.use(token)
	if index, formed := tokenIndex(token); !ok && formed && index >= applied {
		// Another member may have assigned it a moment ago.
		if err := s.catchUp(ctx); err != nil {
			return auth.Subject{}, fmt.Errorf("wait for the entry that assigned a token: %w", err)
		}
		user, ok = s.use(token)
	}
	if !ok {
		return auth.Subject{}, ErrInvalidToken
	}
	return auth.Subject{User: user, Revision: revision}, nil
}

// tokenIndex returns the index in the text of a simple token: that of the entry before the one that assigned it.
func tokenIndex(token string) (index uint64, ok bool) {
	prefix, text, _ := strings.Cut(token, ".")
	if len(prefix) < prefixLettersMin || len(text) > 20 {
		return 0, false
	}
	index, err := strconv.ParseUint(text, 10, 64)
	return index, err == nil
}

// now is the time in nanoseconds.
func (s *simpleTokens) now() int64 { return int64(s.clock.Now().Sub(s.begun)) }

// use returns who has a token, and begins its time to live anew.
func (s *simpleTokens) use(token string) (user string, ok bool) {
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.byText[token]
	if !ok || now-t.used.Load() >= int64(s.ttl) {
		return "", false
	}
	t.used.Store(now)
	return t.user, true
}

// prefix draws the letters of a token.
func (s *simpleTokens) prefix() (string, error) { return rand.Text(), nil }

func (s *simpleTokens) sign(_ string, _ uint64, kept string) (string, error) { return kept, nil }

// happened is given what the log did.
func (s *simpleTokens) happened(events []auth.Event) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		switch {
		case e.Kind == auth.TokenAssigned && e.Token != "":
			s.assignLocked(e.User, e.Token, now)
		case e.Kind == auth.UserChanged:
			for text := range s.byUser[e.User] {
				delete(s.byText, text)
			}
			delete(s.byUser, e.User)
		case e.Kind == auth.Disabled:
			clear(s.byText)
			clear(s.byUser)
		}
	}
}

func (s *simpleTokens) assignLocked(user, text string, now int64) {
	if len(s.byText) >= s.max {
		s.makeRoomLocked(now)
	}
	t := &simpleToken{user: user}
	t.used.Store(now)
	s.byText[text] = t
	if s.byUser[user] == nil {
		s.byUser[user] = make(map[string]struct{})
	}
	s.byUser[user][text] = struct{}{}
}

// makeRoomLocked ends the tokens that nobody has used in the shortest time, a half of a half and so on of the time to live,
// that leaves room for an eighth.
func (s *simpleTokens) makeRoomLocked(now int64) {
	for age := int64(s.ttl); len(s.byText) > s.max-s.max/8; age /= 2 {
		s.sweepLocked(now, age)
		if age == 0 {
			return
		}
	}
}

// sweep ends the tokens whose time has passed.
func (s *simpleTokens) sweep() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(now, int64(s.ttl))
}

func (s *simpleTokens) sweepLocked(now, age int64) {
	for text, t := range s.byText {
		if now-t.used.Load() < age {
			continue
		}
		delete(s.byText, text)
		if texts := s.byUser[t.user]; len(texts) > 1 {
			delete(texts, text)
		} else {
			delete(s.byUser, t.user)
		}
	}
}

// sweepTokens sweeps now and then until the member stops.
func (m *Member) sweepTokens() {
	s := m.logins.simple
	if s == nil {
		return
	}
	ticker := m.cfg.Clock.NewTicker(max(s.ttl/4, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C():
			s.sweep()
		case <-m.stop:
			return
		}
	}
}
