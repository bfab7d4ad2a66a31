package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// tokens asks again and again on one connection, each time with a token that makes work: of
// a key that does not exist, so that the issuer might be asked, or of a signature that has
// to be verified.
func (a *attacker) tokens(i int) {
	c, err := a.dial(a.http)
	if err != nil {
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for n := 0; err == nil && time.Now().Before(a.until); n++ {
		kid := "ES256"
		if i%2 == 0 {
			kid = fmt.Sprintf("%d-%d", i, n)
		}
		if _, err = io.WriteString(c, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+forged(kid)+"\r\n\r\n"); err != nil {
			break
		}
		var resp *http.Response
		if resp, err = http.ReadResponse(r, nil); err == nil {
			a.requests.Add(1)
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != http.StatusUnauthorized {
				fmt.Printf("got %s\n", resp.Status) // which the test does not expect
			}
		}
	}
	a.ended(err)
}

// forged is a token like those of the issuer, but for its signature.
func forged(kid string) string {
	encode := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return encode(jwt.MapClaims{"alg": "ES256", "typ": "JWT", "kid": kid}) + "." + encode(testbed.Claims("alice")) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", 64)))
}

// TestAttackTokens floods the program with tokens that make work while good clients read,
// and others come with good tokens, of an old key and of a new one.
func TestAttackTokens(t *testing.T) {
	underSiege(t, func(t *testing.T, secure bool) {
		duration := 1500 * time.Millisecond
		if *long {
			duration = 15 * time.Second
		}
		issuer := testbed.NewIssuer(t)
		u := e2etest.NewUpstream(t, pacedOr(e2etest.Silence))
		s := besiege(t, "tokens, 200", secure, u, strings.Join(e2etest.TokenFlags(e2etest.ServeIssuer(t, issuer)), " ")+" --allow-anonymous")
		attackers := testbed.Start(t, fmt.Sprintf("attacker tokens 200 %v %s %s %v", duration, s.Addrs[0], s.Addrs[1], secure))
		defer attackers.Stop()
		var asked atomic.Int64
		p := s.program(t)
		memory, cpu := s.Cost(func() {
			for end := time.Now().Add(duration / 2); time.Now().Before(end); {
				begun := time.Now()
				if a, err := faces[0].ask(e2etest.As(e2etest.ShortContext(t), "Bearer "+issuer.Token("bob")), p, hello); err != nil || a.text != "Hello" {
					t.Errorf("a good caller: %+v, %v", a, err)
				}
				asked.Add(1)
				if time.Since(begun) > 5*time.Second {
					t.Errorf("a good caller has waited %v", time.Since(begun))
				}
			}
			if summary := attackers.Line(); strings.HasPrefix(summary, "got") {
				t.Error(summary)
			} else {
				fmt.Fprintf(os.Stdout, "tokens for %v: %s; %d good ones; the issuer was asked %d times\n", duration, summary, asked.Load(), issuer.Asked.Load())
			}
		})
		if n, most := issuer.Asked.Load(), int64(3+duration/(10*time.Second)); n > most {
			t.Errorf("the issuer was asked %d times", n)
		}
		fmt.Fprintf(os.Stdout, "%v of the processor\n", cpu.Round(10*time.Millisecond))
		s.lift(t, memory, 96<<20)
	})
}
