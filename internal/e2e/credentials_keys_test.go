package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestKeysChange has keys come and go while the program runs: a stream goes on, whatever
// becomes of its key.
func TestKeysChange(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			keys, issuer := e2etest.NewKeyring(t, "alice", "bob"), testbed.NewIssuer(t)
			jwks := issuer.File()
			u := newSpoken(t)
			p := e2etest.Start(t, layout, u.Env(), append(e2etest.TokenFlags(jwks), keys.Flag())...)
			status := func(authorization string) int {
				return p.Send(t.Context(), t, "GET", "/v1/models", "", "Authorization", authorization).StatusCode
			}
			rotated := "Bearer " + issuer.Key("RS256").Sign(t, testbed.Claims("carol"), nil)
			bob, carol := keys.Of("bob"), issuer.Token("carol")
			running := p.Post(t, e2etest.Question, "Authorization", bob)
			if a, b, c := status(bob), status(rotated), running.StatusCode; a != 200 || b != 200 || c != 200 {
				t.Fatalf("at first: %d, %d, %d", a, b, c)
			}
			delete(keys.Keys, "bob")
			keys.Keys["dave"] = rand.Text()
			keys.Write(t)
			issuer.RemoveKey("RS256")
			e2etest.ReplaceFile(t, jwks, string(issuer.JWKS()))
			e2etest.Eventually(t, "the old keys are refused", func() bool { return status(bob) == 401 && status(rotated) == 401 })
			e2etest.Eventually(t, "the new key is taken", func() bool { return status(keys.Of("dave")) == 200 })
			e2etest.ReplaceFile(t, keys.File, "broken")
			e2etest.ReplaceFile(t, jwks, "broken")
			e2etest.Eventually(t, "the log tells of both", func() bool { return strings.Count(p.Log.String(), "cannot be read") == 2 })
			for name, authorization := range map[string]string{"alice": keys.Of("alice"), "dave": keys.Of("dave"), "carol": "Bearer " + carol} {
				if got := status(authorization); got != 200 {
					t.Errorf("with broken files, %s: %d", name, got)
				}
			}
			close(u.finish)
			if all, err := e2etest.Messages(running.Body); err != nil || !ended(all) {
				t.Errorf("the stream of a key that was removed: %q, %v", all, err)
			}
		})
	}
}

// TestNewKeyOfIssuer has an issuer sign with a new key: the first tokens that name it are
// good, however many come at once, and the issuer is asked for it once.
func TestNewKeyOfIssuer(t *testing.T) {
	for _, layout := range layouts {
		issuer := testbed.NewIssuer(t)
		p := e2etest.Start(t, layout, nil, e2etest.TokenFlags(e2etest.ServeIssuer(t, issuer))...)
		if got := p.Send(t.Context(), t, "GET", "/v1/models", "", "Authorization", "Bearer "+issuer.Token("alice")).StatusCode; got != 200 {
			t.Fatalf("the first token: %d", got)
		}
		issuer.AddKey("new", jwt.SigningMethodRS256)
		token := "Bearer " + issuer.Key("new").Sign(t, testbed.Claims("alice"), nil)
		var calls sync.WaitGroup
		for range 50 {
			calls.Go(func() {
				if got := p.Send(t.Context(), t, "GET", "/v1/models", "", "Authorization", token).StatusCode; got != 200 {
					t.Errorf("%s: a token with the new key: %d", layout, got)
				}
			})
		}
		calls.Wait()
		if asked := issuer.Asked.Load(); asked != 2 {
			t.Errorf("%s: the issuer was asked %d times", layout, asked)
		}
	}
}

// TestUnknownKeys sends tokens with keys that nobody knows, a thousand a second, over gRPC
// and over HTTP: the issuer hears next to nothing of it, and good callers go on.
func TestUnknownKeys(t *testing.T) {
	for layout, calls := range map[string]int{"one process": 3000, "two processes": 1000} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			issuer := testbed.NewIssuer(t)
			p := e2etest.Start(t, layout, nil, append(e2etest.TokenFlags(e2etest.ServeIssuer(t, issuer)), "--echo-interval=0s")...)
			client := completionv1.NewCompletionServiceClient(p.Conn(t))
			call := func(token string) error {
				_, err := client.ListModels(e2etest.As(t.Context(), "Bearer "+token), &completionv1.ListModelsRequest{})
				return err
			}
			if layout == "two processes" {
				call = func(token string) error {
					a, err := askJSON(e2etest.As(t.Context(), "Bearer "+token), p, `{"prompt":"Hello"}`)
					if err == nil && a.status != nil {
						err = a.status.Err()
					}
					return err
				}
			}
			if err := call(issuer.Token("alice")); err != nil { // as soon as it serves
				t.Fatal(err)
			}
			key := issuer.Key("EdDSA")
			begun := time.Now()
			refused := make(chan error, calls)
			for i := range calls {
				time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Millisecond)))
				token := key.Sign(t, testbed.Claims("alice"), map[string]any{"kid": fmt.Sprint("unknown ", i)})
				go func() { refused <- call(token) }()
				if i%100 == 0 {
					if err := call(issuer.Token("alice")); err != nil {
						t.Errorf("a good caller: %v", err)
					}
				}
			}
			for range calls {
				if err := <-refused; status.Code(err) != codes.Unauthenticated {
					t.Errorf("got %v", err)
				}
			}
			took := time.Since(begun)
			most := 2 + int64(took/(10*time.Second)) // at the start, then once, and once every ten seconds
			if asked := issuer.Asked.Load(); asked > most {
				t.Errorf("the issuer was asked %d times in %v", asked, took)
			} else {
				t.Logf("%d tokens with unknown keys in %v: the issuer was asked %d times", calls, took.Round(time.Millisecond), asked)
			}
		})
	}
}
