package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"golang.org/x/time/rate"
)

// When an issuer's keys are read.
const (
	refreshInterval = 4 * time.Minute  // at most: a key that the issuer takes back is good for five minutes
	retryInterval   = 30 * time.Second // when they could not be read
	unknownInterval = 10 * time.Second // for tokens with keys that are not known, which anybody can make
	refreshTimeout  = 10 * time.Second
	unknownWait     = 3 * time.Second // how long a token waits for that, at most
)

const (
	maxKeys    = 100 // of an issuer
	maxUnnamed = 4   // of an issuer whose tokens need not name theirs: all are tried

	// maxWaiting is how many tokens with keys that are not known wait for a refresh. Anybody
	// can make them, and while an issuer is slow, each holds a call. One more is told to come
	// again, as one is that has waited for too long: it may be good. Not so when there may be
	// no refresh, or strangers would have everybody come again and again.
	maxWaiting = 1000
)

var (
	errNoKeys   = errors.New("the issuer's keys could not be read yet")
	errNoAnswer = errors.New("the token's key is not known, and the issuer has not said yet whether there is such a one")
	errUnnamed  = errors.New("the token names no key, and the issuer has too many to try")
)

// keySet has the keys of an issuer (JWKS, RFC 7517), as they are now. It is a
// jwkset.Storage that reads them again, now and then and for a token with a key that is
// not known.
//
// jwkset has a storage that does so, by a URL. But of the tokens which come with a new key
// at the same time, it lets the first one refresh, and refuses the others; an answer with
// no keys in it drops those that are in force, as does that of a proxy's error page which
// is JSON; and it takes an answer of any size.
type keySet struct {
	*jwkset.MemoryJWKSet

	interval time.Duration
	source   source
	log      *slog.Logger
	ctx      context.Context // of refreshes
	unknown  *rate.Limiter   // of refreshes for keys that are not known

	mu        sync.Mutex    // guards all below
	refreshed chan struct{} // closed when the refresh under way is over; nil: there is none
	content   []byte
	trouble   trouble
	has       bool // keys
	waiting   int  // tokens, for the refresh
}

// newKeySet returns the keys behind a URL, or in a file, which must be there.
func newKeySet(ctx context.Context, from string, log *slog.Logger) (*keySet, error) {
	s := &keySet{
		MemoryJWKSet: jwkset.NewMemoryStorage(),
		log:          log,
		ctx:          ctx,
		unknown:      rate.NewLimiter(rate.Every(unknownInterval), 1),
		trouble:      trouble{log: log, what: "the issuer's keys in " + from},
	}
	if !strings.Contains(from, "://") {
		s.interval, s.source = pollInterval, func(context.Context) ([]byte, error) { return readFile(from) }
		if err := s.refresh(); err != nil {
			return nil, fmt.Errorf("read the issuer's keys in %s: %w", from, err)
		}
		return s, nil
	}
	var err error
	if s.source, err = newURLSource(from); err != nil {
		return nil, err
	}
	s.trouble.what = "the issuer's keys" // and not where: the cause may say so, without a password
	s.interval = refreshInterval
	return s, nil
}

// watch reads the keys again and again until ctx is done, and then waits for the refresh
// that is under way.
func (s *keySet) watch(ctx context.Context) {
	var first time.Duration
	if s.interval == pollInterval {
		first = pollInterval // it was read at the start
	}
	every(ctx, first, func() time.Duration {
		<-s.begin()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.trouble.now != "" && s.interval > retryInterval {
			return retryInterval
		}
		return s.interval - rand.N(s.interval/8) // not all servers at once
	})
	s.mu.Lock()
	refreshed := s.refreshed
	s.mu.Unlock()
	if refreshed != nil {
		<-refreshed
	}
}

// begin begins a refresh, unless one is under way, and returns what is closed when it is
// over.
func (s *keySet) begin() (refreshed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginLocked()
}

func (s *keySet) beginLocked() <-chan struct{} {
	if s.refreshed == nil {
		s.refreshed = make(chan struct{})
		go func() {
			err := s.refresh()
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.ctx.Err() == nil {
				s.trouble.is(err)
			}
			close(s.refreshed)
			s.refreshed = nil
		}()
	}
	return s.refreshed
}

// refresh reads the keys. What cannot be read changes nothing.
func (s *keySet) refresh() error {
	ctx, cancel := context.WithTimeout(s.ctx, refreshTimeout)
	defer cancel()
	content, err := s.source(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	same := s.has && bytes.Equal(content, s.content)
	s.mu.Unlock()
	if same {
		return nil
	}
	all, err := parseKeySet(content)
	if err != nil {
		return err
	}
	_ = s.KeyReplaceAll(ctx, all) // which never fails
	s.mu.Lock()
	s.content, s.has = content, true
	s.mu.Unlock()
	s.log.Info("keys of the issuer of tokens", "keys", len(all))
	return nil
}

// KeyRead implements jwkset.Storage. For a key that is not known it waits for a refresh,
// as long as those are not too many: for the one that is under way, and if that has not
// brought the key, for the next one, as the key may be younger than the first one's begin.
func (s *keySet) KeyRead(ctx context.Context, kid string) (jwkset.JWK, error) {
	key, err := s.MemoryJWKSet.KeyRead(ctx, kid)
	if err == nil {
		return key, nil
	}
	ctx, cancel := context.WithTimeout(ctx, unknownWait)
	defer cancel()
	refreshed := s.await(ctx)
	key, err = s.MemoryJWKSet.KeyRead(ctx, kid) // without a wait, too: a refresh may just have ended
	if err != nil && refreshed == before {
		refreshed = s.await(ctx)
		key, err = s.MemoryJWKSet.KeyRead(ctx, kid)
	}
	switch {
	case err == nil:
		return key, nil
	case s.empty():
		return jwkset.JWK{}, errNoKeys
	case refreshed == unanswered, s.hasFailed():
		return jwkset.JWK{}, errNoAnswer
	}
	return jwkset.JWK{}, jwkset.ErrKeyNotFound
}

// KeyReadAll implements jwkset.Storage: it is for tokens that name no key.
func (s *keySet) KeyReadAll(ctx context.Context) ([]jwkset.JWK, error) {
	if s.empty() {
		ctx, cancel := context.WithTimeout(ctx, unknownWait)
		defer cancel()
		s.await(ctx)
	}
	all, err := s.MemoryJWKSet.KeyReadAll(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, errNoKeys
	case len(all) > maxUnnamed:
		return nil, errUnnamed
	}
	return all, nil
}

// awaited is what has become of a wait for a refresh.
type awaited int

const (
	none       awaited = iota // there may be none now: what is known is all there is
	after                     // there was one, which began when it was waited for
	before                    // there was one, which had begun before
	unanswered                // it takes too long, or too many wait already
)

// await waits for the refresh that is under way, or for one that it begins, if there may
// be one, until ctx is done.
func (s *keySet) await(ctx context.Context) awaited {
	s.mu.Lock()
	when := before
	switch {
	case s.waiting >= maxWaiting:
		s.mu.Unlock()
		return unanswered
	case s.refreshed == nil && !s.unknown.Allow():
		s.mu.Unlock()
		return none
	case s.refreshed == nil:
		when = after
	}
	refreshed := s.beginLocked()
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiting--
	}()
	select {
	case <-refreshed:
		return when
	case <-ctx.Done():
		return unanswered
	}
}

// hasFailed tells whether the keys could not be read the last time: then those that are known
// may be old, and nobody can say that there is no other one.
func (s *keySet) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble.now != ""
}

func (s *keySet) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.has
}

// parseKeySet returns the keys of a set by which signatures can be verified. Others are
// left out, as RFC 7517 section 5 has it. A set that has none is not one.
func parseKeySet(content []byte) ([]jwkset.JWK, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, errors.New("it is not the JSON of a key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has more than %d keys", maxKeys)
	}
	var all []jwkset.JWK
	for _, raw := range set.Keys {
		key, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err == nil && verifies(key) {
			all = append(all, key)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it has no key by which signatures can be verified")
	}
	return all, nil
}

// verifies says whether a key is a public one, and meant for signatures.
func verifies(key jwkset.JWK) bool {
	m := key.Marshal()
	if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return false
	}
	switch k := key.Key().(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 // RFC 7518 section 3.3
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}
