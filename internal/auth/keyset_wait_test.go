package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestRefreshEndsMeanwhile has a refresh bring a key between the look for it and the wait,
// when no other refresh may begin: it is found.
func TestRefreshEndsMeanwhile(t *testing.T) {
	f := &fakeSource{Issuer: testbed.NewIssuer(t)}
	s, err := newKeySet(t.Context(), "https://issuer.test/jwks", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.source = f.read
	if !knows(s, "ES256") || s.unknown.Allow() {
		t.Fatal("a second refresh may begin at once")
	}
	all, err := parseKeySet(f.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.KeyReplaceAll(t.Context(), nil)
	s.mu.Lock()
	found := make(chan bool)
	go func() { found <- knows(s, "ES256") }()
	time.Sleep(20 * time.Millisecond) // it has looked, and would wait
	_ = s.KeyReplaceAll(t.Context(), all)
	s.mu.Unlock()
	if !<-found {
		t.Error("a key that has just come is not known")
	}
}

// TestYoungerKey adds a key when a refresh has begun that does not bring it, any more: a
// token that waits for that one is good, if there may be another one.
func TestYoungerKey(t *testing.T) {
	inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
		knows(s, "ES256")
		time.Sleep(time.Minute)
		f.delay.Store(0)
		slow := func() ([]byte, error) {
			content := f.JWKS()
			time.Sleep(time.Second)
			return content, nil
		}
		f.fails.Store(&slow)
		for i, good := range []bool{true, false} {
			before := f.asked.Load()
			s.begin()
			time.Sleep(100 * time.Millisecond)
			kid := fmt.Sprint("new ", i)
			f.AddKey(kid, jwt.SigningMethodES256)
			begun := time.Now()
			_, err := s.KeyRead(t.Context(), kid)
			asked := f.asked.Load() - before
			if good && (err != nil || asked != 2 || time.Since(begun) > 2*time.Second) {
				t.Errorf("got %v after %v; the issuer was asked %d times", err, time.Since(begun), asked)
			}
			if !good && (err != jwkset.ErrKeyNotFound || asked != 1) { // as it was asked just now
				t.Errorf("then got %v; the issuer was asked %d times", err, asked)
			}
		}
	})
}

// TestSlowIssuer checks that tokens do not wait for an issuer for long.
func TestSlowIssuer(t *testing.T) {
	inTimeOf(t, 9*time.Second, func(t *testing.T, f *fakeSource, s *keySet) {
		begun := time.Now()
		if _, err := s.KeyRead(t.Context(), "ES256"); !errors.Is(err, errNoKeys) || time.Since(begun) != unknownWait {
			t.Errorf("got %v after %v", err, time.Since(begun))
		}
		time.Sleep(7 * time.Second)
		if !knows(s, "ES256") {
			t.Error("the keys did not come")
		}
	})
}

// TestManyWait checks that of the tokens with keys that are not known, few wait for an
// issuer that is slow, and that those of known keys do not. Of none of them it is known that
// it is bad.
func TestManyWait(t *testing.T) {
	inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
		knows(s, "ES256")
		time.Sleep(time.Minute)
		f.delay.Store(int64(9 * time.Second))
		var all sync.WaitGroup
		var waited atomic.Int64
		for i := range 3 * maxWaiting {
			all.Go(func() {
				begun := time.Now()
				if _, err := s.KeyRead(context.Background(), fmt.Sprint(i)); err != errNoAnswer {
					t.Errorf("got %v after %v", err, time.Since(begun))
				}
				if time.Since(begun) > 0 {
					waited.Add(1)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		if !knows(s, "ES256") || time.Since(begun) > 0 {
			t.Error("a known key waits")
		}
		all.Wait()
		if n := waited.Load(); n != maxWaiting {
			t.Errorf("%d have waited", n)
		}
		time.Sleep(7 * time.Second)
		f.delay.Store(0)
		knows(s, "x")
		if _, err := s.KeyRead(t.Context(), "x"); err != jwkset.ErrKeyNotFound {
			t.Errorf("when the issuer was asked just now: got %v", err)
		}
		time.Sleep(time.Minute)
		f.delay.Store(int64(time.Second))
		f.AddKey("new", jwt.SigningMethodES256)
		if !knows(s, "new") {
			t.Error("nobody waits any more")
		}
	})
}

// TestFailedRefresh has the issuer answer with an error when a token with a new key comes:
// nobody knows then that the token is bad, until the issuer has answered.
func TestFailedRefresh(t *testing.T) {
	inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
		knows(s, "ES256")
		time.Sleep(time.Minute)
		f.AddKey("new", jwt.SigningMethodES256)
		f.fail("", errors.New("500 Internal Server Error"))
		for range 2 { // the second time, the issuer may not be asked again yet
			if _, err := s.KeyRead(t.Context(), "new"); err != errNoAnswer {
				t.Errorf("got %v", err)
			}
			if !knows(s, "ES256") {
				t.Error("a known key is not known any more")
			}
		}
		f.fails.Store(nil)
		time.Sleep(time.Minute)
		if !knows(s, "new") {
			t.Error("the new key is not known")
		}
		if _, err := s.KeyRead(t.Context(), "x"); err != jwkset.ErrKeyNotFound {
			t.Errorf("when the issuer has answered: got %v", err)
		}
	})
}
