package e2e

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// badCaller is what a caller sends who is nobody.
type badCaller struct {
	name          string
	authorization []string
	overHTTP      bool // gRPC's metadata cannot have it
}

// badCallers are those on a server that takes the keys of a keyring and an issuer's tokens.
func badCallers(t *testing.T, keys *e2etest.Keyring, issuer *testbed.Issuer) []badCaller {
	t.Helper()
	claims := func(name string, value any) jwt.MapClaims {
		c := testbed.Claims("alice")
		c[name] = value
		return c
	}
	es, rs, stranger := issuer.Key("ES256"), issuer.Key("RS256"), testbed.NewIssuer(t)
	sign := func(c jwt.Claims) string { return "Bearer " + es.Sign(t, c, nil) }
	public, err := x509.MarshalPKIXPublicKey(rs.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	confused := jwt.NewWithClaims(jwt.SigningMethodHS256, testbed.Claims("alice"))
	confused.Header["kid"] = "RS256"
	hs, err := confused.SignedString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	if err != nil {
		t.Fatal(err)
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, testbed.Claims("alice")).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	good := keys.Of("alice")
	return []badCaller{
		{name: "missing"},
		{name: "wrong key", authorization: []string{"Bearer " + rand.Text()}},
		{name: "a key's beginning", authorization: []string{good[:len(good)-1]}},
		{name: "empty header", authorization: []string{""}},
		{name: "empty key", authorization: []string{"Bearer "}},
		{name: "another scheme", authorization: []string{"Basic " + strings.TrimPrefix(good, "Bearer ")}},
		{name: "no scheme", authorization: []string{strings.TrimPrefix(good, "Bearer ")}},
		{name: "two keys", authorization: []string{good, good}},
		{name: "a wrong and a right key", authorization: []string{"Bearer x", good}},
		{name: "not ASCII", authorization: []string{good + "\xe9"}, overHTTP: true},
		{name: "a tab", authorization: []string{strings.Replace(good, " ", "\t", 1)}, overHTTP: true},
		{name: "expired", authorization: []string{sign(claims("exp", time.Now().Add(-time.Minute).Unix()))}},
		{name: "not yet valid", authorization: []string{sign(claims("nbf", time.Now().Add(time.Minute).Unix()))}},
		{name: "other audience", authorization: []string{sign(claims("aud", "other"))}},
		{name: "other issuer", authorization: []string{sign(claims("iss", "https://other.test"))}},
		{name: "no subject", authorization: []string{sign(claims("sub", ""))}},
		{name: "alg none", authorization: []string{"Bearer " + none}},
		{name: "HS for RS", authorization: []string{"Bearer " + hs}},
		{name: "unknown kid", authorization: []string{"Bearer " + es.Sign(t, testbed.Claims("alice"), map[string]any{"kid": "unknown"})}},
		{name: "a stranger's key", authorization: []string{"Bearer " + stranger.Token("alice")}},
		{name: "32 KiB", authorization: []string{"Bearer " + strings.Repeat("x", 32<<10)}},
	}
}

// httpCalls are requests for all that needs credentials.
var httpCalls = []struct{ method, path, body string }{
	{"POST", "/v1/completions", e2etest.Question},
	{"POST", "/v1/chat/completions", e2etest.Question},
	{"POST", "/openai/v1/chat/completions", e2etest.Question},
	{"GET", "/v1/models", ""},
	{"GET", "/openai/v1/models", ""},
	{"GET", "/v1/completions/cmpl_x", ""},
	{"GET", "/v1/completions/cmpl_x/events", ""},
	{"HEAD", "/v1/completions/cmpl_x/events", ""},
	{"POST", "/v1/completions/cmpl_x:cancel", ""},
	{"POST", "/v1/completions:cancel", `{"idempotencyKey":"k"}`},
}

// grpcCalls are calls of all that needs credentials.
var grpcCalls = map[string]func(context.Context, *grpc.ClientConn) error{
	"ListModels": func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := completionv1.NewCompletionServiceClient(c).ListModels(ctx, &completionv1.ListModelsRequest{})
		return err
	},
	"GetCompletion": func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := completionv1.NewCompletionServiceClient(c).GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: "cmpl_x"})
		return err
	},
	"CancelCompletion": func(ctx context.Context, c *grpc.ClientConn) error {
		_, err := completionv1.NewCompletionServiceClient(c).CancelCompletion(ctx, &completionv1.CancelCompletionRequest{IdempotencyKey: "k"})
		return err
	},
	"ResumeCompletion": func(ctx context.Context, c *grpc.ClientConn) error {
		stream, err := completionv1.NewCompletionServiceClient(c).ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: "cmpl_x"})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	},
	"reflection": func(ctx context.Context, c *grpc.ClientConn) error {
		stream, err := reflectionpb.NewServerReflectionClient(c).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		_, err = stream.Recv()
		return err
	},
}

// TestCredentialAttacks has nobody get in, on any face, in either layout.
func TestCredentialAttacks(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			keys, issuer := e2etest.NewKeyring(t, "alice"), testbed.NewIssuer(t)
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { e2etest.Chunk(w, `{"content":"Hello"}`, "stop") })
			p := e2etest.Start(t, layout, u.Env(), append(e2etest.TokenFlags(e2etest.ServeIssuer(t, issuer)), keys.Flag())...)
			conn := p.Conn(t)
			for _, caller := range badCallers(t, keys, issuer) {
				t.Run(caller.name, func(t *testing.T) { checkRefuses(t, p, conn, caller) })
			}
			checkRefusesLongToken(t, p)
			if n := u.Calls.Load(); n != 0 {
				t.Errorf("%d calls upstream", n)
			}
			checkIsOpen(t, p, conn)
			for _, good := range []string{keys.Of("alice"), "bearer " + keys.Keys["alice"], "Bearer " + issuer.Token("bob")} {
				for _, face := range faces {
					if a, err := face.ask(e2etest.As(t.Context(), good), p, e2etest.Question); err != nil || a.status != nil || a.text != "Hello" {
						t.Errorf("%s: who may call: %v, %v", face.name, a, err)
					}
				}
				for name, call := range grpcCalls {
					if code := status.Code(call(e2etest.As(e2etest.ShortContext(t), good), conn)); code != codes.OK && code != codes.NotFound {
						t.Errorf("%s: who may call: %v", name, code)
					}
				}
			}
			for _, secret := range []string{keys.Keys["alice"], issuer.Token("bob")[:20]} {
				if strings.Contains(p.Log.String(), secret) {
					t.Errorf("%s is in the log", secret)
				}
			}
		})
	}
}

// checkRefuses checks that a caller is refused whatever it calls.
func checkRefuses(t *testing.T, p *e2etest.Program, conn *grpc.ClientConn, caller badCaller) {
	t.Helper()
	ctx := e2etest.As(e2etest.ShortContext(t), caller.authorization...)
	for _, face := range faces {
		if caller.overHTTP && face.mediaType == "" {
			continue
		}
		a, err := face.ask(ctx, p, e2etest.Question)
		if err != nil || a.status == nil || a.status.Code() != codes.Unauthenticated || reason(a.status) != "UNAUTHENTICATED" || a.id != "" {
			t.Errorf("%s: got %+v, %v", face.name, a, err)
		} else if a.header != nil {
			checkRefusal(t, face, a, 401, true)
		}
	}
	for _, call := range httpCalls {
		req, err := http.NewRequestWithContext(ctx, call.method, p.HTTP+call.path, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		e2etest.Authorize(ctx, req.Header)
		resp, err := p.HTTPClient().Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", call.method, call.path, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "Bearer" || call.method != "HEAD" && !strings.Contains(strings.ToUpper(string(body)), "UNAUTHENTICATED") {
			t.Errorf("%s %s: got %s, %v, %s", call.method, call.path, resp.Status, resp.Header, body)
		}
	}
	if caller.overHTTP {
		return
	}
	for name, call := range grpcCalls {
		if err := call(ctx, conn); status.Code(err) != codes.Unauthenticated || reason(status.Convert(err)) != "UNAUTHENTICATED" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// checkRefusesLongToken checks that a token of a megabyte is refused by whoever reads it.
func checkRefusesLongToken(t *testing.T, p *e2etest.Program) {
	t.Helper()
	ctx := e2etest.As(e2etest.ShortContext(t), "Bearer "+strings.Repeat("x", 1<<20))
	for name, call := range grpcCalls {
		if err := call(ctx, p.Conn(t)); err == nil || status.Code(err) == codes.NotFound {
			t.Errorf("%s: got %v", name, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, "GET", p.HTTP+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	e2etest.Authorize(ctx, req.Header)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return // the connection was closed while it was sent
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", resp.Status)
	}
}

// checkIsOpen checks that what needs no credentials is answered without, and with wrong ones.
func checkIsOpen(t *testing.T, p *e2etest.Program, conn *grpc.ClientConn) {
	t.Helper()
	for _, authorization := range []string{"", "Bearer wrong"} {
		for _, path := range []string{"/healthz", "/readyz", "/", "/client.js", "/openapi.json"} {
			if resp := p.Send(t.Context(), t, "GET", path, "", "Authorization", authorization); resp.StatusCode != 200 {
				t.Errorf("%s: %s", path, resp.Status)
			}
		}
		resp, err := healthpb.NewHealthClient(conn).Check(e2etest.As(e2etest.ShortContext(t), authorization), &healthpb.HealthCheckRequest{})
		if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health: %v, %v", resp, err)
		}
	}
}

// TestAnonymousToo lets in who has no credentials, and not who has wrong ones.
func TestAnonymousToo(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			keys, issuer := e2etest.NewKeyring(t, "alice"), testbed.NewIssuer(t)
			p := e2etest.Start(t, layout, nil, append(e2etest.TokenFlags(issuer.File()), keys.Flag(), "--allow-anonymous", "--echo-interval=0s")...)
			conn := p.Conn(t)
			for _, caller := range badCallers(t, keys, issuer)[1:] {
				checkRefuses(t, p, conn, caller)
			}
			for _, face := range faces {
				if a, err := face.ask(t.Context(), p, `{"prompt":"Hello"}`); err != nil || a.status != nil {
					t.Errorf("%s: %v, %v", face.name, a, err)
				}
			}
		})
	}
}

// TestNoCredentials does not look at what SDKs send always, as long as nobody has
// credentials.
func TestNoCredentials(t *testing.T) {
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, nil, "--echo-interval=0s")
		for _, authorization := range []string{"Bearer x", "Bearer ", "Basic x", "\tx"} {
			for i, face := range faces {
				if authorization == "\tx" && face.mediaType == "" {
					continue
				}
				a, err := face.ask(e2etest.As(t.Context(), authorization), p, fmt.Sprintf(`{"prompt":"Hello","idempotencyKey":"%d"}`, i))
				if err != nil || a.status != nil {
					t.Errorf("%s, %s: %v, %v", face.name, authorization, a, err)
				}
			}
		}
	}
}
