package member

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/measure"
)

const (
	// rememberedFor is how long a password that was right need not be hashed again.
	rememberedFor = time.Minute
	// rememberedMax bounds for how many users that is so.
	rememberedMax = 1 << 14
	// hashesWaitingMax bounds who waits for a hash to be made.
	hashesWaitingMax = 4096
)

// passwords makes and checks the hashes of passwords: slowly, for that is what they are for, in the goroutine of whoever asks,
// and only a few at a time. What was right a moment ago is known again by a MAC of user, hash and password, under a
// key that no other process has and that is never written; the password itself is not kept.
type passwords struct {
	cost    int
	clock   clock.Clock
	turns   chan struct{} // holds a token for each hash being made
	waiting atomic.Int64
	key     [32]byte
	none    func() []byte // the hash of no password at all, for users that are not there; made when it is first needed

	mu         sync.Mutex
	remembered map[string]remembered
}

type remembered struct {
	mac   [sha256.Size]byte
	until time.Time
}

// newPasswords makes hashes of a cost; one that bcrypt does not know is its default, as in etcd.
func newPasswords(cost int, c clock.Clock) *passwords {
	if cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
		cost = bcrypt.DefaultCost
	}
	p := &passwords{
		cost: cost, clock: c, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		remembered: make(map[string]remembered),
	}
	_, _ = rand.Read(p.key[:]) // never fails
	p.none = sync.OnceValue(func() []byte {
		none, _ := bcrypt.GenerateFromPassword([]byte(rand.Text()), p.cost) // fails for a password that is too long
		return none
	})
	return p
}

// hash returns the hash of a password as entries hold it. The error is bcrypt's for one above 72 bytes, ErrTooManyRequests
// or the context's.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	phases := measure.PhasesOf(ctx)
	phases.Enter(measure.Password)
	defer phases.Enter(measure.Checking)
	if err := p.enter(ctx); err != nil {
		return "", err
	}
	defer p.leave()
	h, err := bcrypt.GenerateFromPassword([]byte(password), p.cost)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(h), nil
}

// check returns auth.ErrFailed unless the password fits the user's hash. A nil hash is that of a user who is not there: it
// takes as long.
func (p *passwords) check(ctx context.Context, user string, hash []byte, password string) error {
	mac := p.mac(user, hash, password)
	if hash != nil && p.recall(user, mac) {
		return nil
	}
	phases := measure.PhasesOf(ctx)
	phases.Enter(measure.Password)
	defer phases.Enter(measure.Checking)
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave()
	known := hash != nil
	if !known {
		hash = p.none()
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil || !known {
		return auth.ErrFailed
	}
	p.remember(user, mac)
	return nil
}

// enter waits for a turn to make a hash.
func (p *passwords) enter(ctx context.Context) error {
	if p.waiting.Add(1) > hashesWaitingMax {
		p.waiting.Add(-1)
		return ErrTooManyRequests
	}
	defer p.waiting.Add(-1)
	select {
	case p.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a password to be hashed: %w", ctx.Err())
	}
}

func (p *passwords) leave() { <-p.turns }

// mac tells apart all triples, also those whose parts make the same text together.
func (p *passwords) mac(user string, hash []byte, password string) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, p.key[:])
	var n [8]byte
	for _, part := range [][]byte{[]byte(user), hash, []byte(password)} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(part)
	}
	h.Sum(out[:0])
	return out
}

func (p *passwords) recall(user string, mac [sha256.Size]byte) bool {
	now := p.clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.remembered[user]
	if ok && !now.Before(r.until) {
		delete(p.remembered, user)
		return false
	}
	return ok && hmac.Equal(r.mac[:], mac[:])
}

func (p *passwords) remember(user string, mac [sha256.Size]byte) {
	until := p.clock.Now().Add(rememberedFor)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.remembered[user]; !there && len(p.remembered) >= rememberedMax {
		for other := range p.remembered { // any one
			delete(p.remembered, other)
			break
		}
	}
	p.remembered[user] = remembered{mac, until}
}

// happened forgets who has changed.
func (p *passwords) happened(events []auth.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		switch e.Kind {
		case auth.UserChanged:
			delete(p.remembered, e.User)
		case auth.Disabled:
			clear(p.remembered)
		}
	}
}
