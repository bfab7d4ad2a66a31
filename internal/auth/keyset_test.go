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

// fakeSource is a source of keys that can fail.
type fakeSource struct {
	*testbed.Issuer
	asked atomic.Int64
	delay atomic.Int64                           // as a time.Duration
	fails atomic.Pointer[func() ([]byte, error)] // nil: it does not
}

// fail has the source answer with something else.
func (f *fakeSource) fail(content string, err error) {
	fails := func() ([]byte, error) { return []byte(content), err }
	f.fails.Store(&fails)
}

func (f *fakeSource) read(context.Context) ([]byte, error) {
	f.asked.Add(1)
	time.Sleep(time.Duration(f.delay.Load()))
	if fails := f.fails.Load(); fails != nil {
		return (*fails)()
	}
	return f.JWKS(), nil
}

// inTime runs a test with the keys of an issuer, in a bubble of time.
func inTime(t *testing.T, test func(t *testing.T, f *fakeSource, s *keySet)) {
	t.Helper()
	inTimeOf(t, 100*time.Millisecond, test)
}

// inTimeOf is inTime with an issuer who takes so long at first.
func inTimeOf(t *testing.T, delay time.Duration, test func(t *testing.T, f *fakeSource, s *keySet)) {
	t.Helper()
	issuer := testbed.NewIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &fakeSource{Issuer: issuer}
		f.delay.Store(int64(delay))
		s, err := newKeySet(ctx, "https://issuer.test/jwks", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.source = f.read
		var watching sync.WaitGroup
		watching.Go(func() { s.watch(ctx) })
		test(t, f, s)
		cancel()
		watching.Wait()
	})
}

func knows(s *keySet, kid string) bool {
	_, err := s.KeyRead(context.Background(), kid)
	return err == nil
}

// TestNewKey checks that a new key is good for the first tokens that name it, however many
// come at the same time, and is asked for once.
func TestNewKey(t *testing.T) {
	inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
		if !knows(s, "ES256") { // while the keys are asked for the first time
			t.Fatal("the first tokens are refused")
		}
		time.Sleep(time.Minute)
		f.AddKey("new", jwt.SigningMethodES256)
		before := f.asked.Load()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if !knows(s, "new") {
					t.Error("a token with the new key is refused")
				}
			})
		}
		all.Wait()
		if n := f.asked.Load() - before; n != 1 {
			t.Errorf("the issuer was asked %d times", n)
		}
	})
}

// TestUnknownKeys asks for 1,000 keys a second that do not exist, for a minute: the issuer
// hears little of it, known keys are found at once, and a new one soon.
func TestUnknownKeys(t *testing.T) {
	inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
		knows(s, "ES256")
		before := f.asked.Load()
		var all sync.WaitGroup
		for i := range 60_000 {
			time.Sleep(time.Millisecond)
			all.Go(func() {
				if knows(s, fmt.Sprint(i)) {
					t.Error("an unknown key is found")
				}
			})
			if i == 30_000 {
				f.AddKey("new", jwt.SigningMethodES256)
			}
			if i%1000 == 0 {
				begun := time.Now()
				if !knows(s, "ES256") || time.Since(begun) > 0 {
					t.Errorf("a known key waits for %v", time.Since(begun))
				}
			}
		}
		if n := f.asked.Load() - before; n > 7 || n < 5 {
			t.Errorf("the issuer was asked %d times in a minute", n)
		}
		if _, err := s.MemoryJWKSet.KeyRead(t.Context(), "new"); err != nil {
			t.Error("the new key did not come through")
		}
		all.Wait()
	})
}

// TestRemovedKey checks that a key which the issuer takes back stops within five minutes,
// even if asking for it fails once.
func TestRemovedKey(t *testing.T) {
	inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
		knows(s, "ES256")
		f.RemoveKey("RS256")
		time.Sleep(time.Minute)
		f.fail("", errors.New("refused"))
		before := f.asked.Load()
		for f.asked.Load() == before {
			time.Sleep(time.Second)
		}
		f.fails.Store(nil)
		if !knows(s, "RS256") {
			t.Error("an issuer that fails takes keys away")
		}
		time.Sleep(5*time.Minute - refreshInterval)
		if knows(s, "RS256") {
			t.Error("a removed key is good")
		}
	})
}

// TestBrokenKeySet checks that what is not a key set leaves the old keys in force.
func TestBrokenKeySet(t *testing.T) {
	for _, broken := range []string{"", "{}", "null", `{"keys":[]}`, `{"error":"try again"}`, "<html>", `{"keys":[{"kty":"oct","kid":"ES256","k":"c2VjcmV0"}]}`, `{"keys":7}`} {
		inTime(t, func(t *testing.T, f *fakeSource, s *keySet) {
			knows(s, "ES256")
			f.fail(broken, nil)
			time.Sleep(time.Hour)
			if !knows(s, "ES256") {
				t.Errorf("%s takes the keys away", broken)
			}
			f.fails.Store(nil)
			f.AddKey("new", jwt.SigningMethodES256)
			time.Sleep(retryInterval + time.Second)
			if !knows(s, "new") {
				t.Errorf("after %s, nothing is read", broken)
			}
		})
	}
}

// TestUnusableKeys checks that keys by which no signature can be verified are left out, and
// take no others with them.
func TestUnusableKeys(t *testing.T) {
	i := testbed.NewIssuer(t)
	good := string(i.JWKS())
	const n = "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u" // of 512 bits and some
	for _, other := range []string{
		`{"kty":"oct","kid":"x","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}`,
		`{"kty":"RSA","kid":"x","e":"AQAB","n":"` + n + `"}`,
		`{"kty":"new kind","kid":"x"}`, `{"kid":"x"}`, `7`,
		`{"kty":"EC","crv":"P-256","kid":"x","x":"AQ","y":"AQ"}`,
	} {
		all, err := parseKeySet([]byte(good[:len(good)-2] + "," + other + "]}"))
		if err != nil || len(all) != 3 {
			t.Errorf("%s: got %d keys, %v", other, len(all), err)
		}
	}
	key := all(t, i)[0].Marshal()
	for _, change := range []func(*jwkset.JWKMarshal){
		func(m *jwkset.JWKMarshal) { m.USE = jwkset.UseEnc },
		func(m *jwkset.JWKMarshal) { m.USE, m.KEYOPS = "", []jwkset.KEYOPS{jwkset.KeyOpsEncrypt} },
	} {
		m := key
		change(&m)
		k, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil || verifies(k) {
			t.Errorf("%v: %v", m, err)
		}
	}
	many := `{"keys":[`
	for range maxKeys {
		many += `{},`
	}
	if _, err := parseKeySet([]byte(many + `{}]}`)); err == nil {
		t.Error("any number of keys is taken")
	}
}

func all(t *testing.T, i *testbed.Issuer) []jwkset.JWK {
	t.Helper()
	keys, err := parseKeySet(i.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestUnnamedKeys checks that not all keys of an issuer with many are tried.
func TestUnnamedKeys(t *testing.T) {
	i := testbed.NewIssuer(t)
	i.AddKey("fourth", jwt.SigningMethodES256)
	v := newTestVerifier(t, i)
	token := i.Key("ES256").Sign(t, testbed.Claims("alice"), map[string]any{"kid": nil})
	if _, err := v.principal(t.Context(), token); err != nil {
		t.Error(err)
	}
	i.AddKey("fifth", jwt.SigningMethodES256)
	if _, err := newTestVerifier(t, i).principal(t.Context(), token); err == nil {
		t.Error("all keys are tried")
	}
}
