package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

const hello = `{"model":"echo","messages":[{"role":"user","content":"Hello"}]}`

// TestTLS has each face answer over TLS, in the version of HTTP that the client likes, and
// nothing without.
func TestTLS(t *testing.T) {
	for _, layout := range e2etest.OverTLS {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, nil, "--echo-interval=0s")
			for _, face := range faces {
				if a, err := face.ask(e2etest.ShortContext(t), p, hello); err != nil || a.text != "Hello" {
					t.Errorf("%s: got %+v, %v", face.name, a, err)
				}
			}
			for _, protocols := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}} {
				checkReused(t, p, protocols)
			}

			plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // as the answer is net/http's own
			resp, err := plain.Get(strings.Replace(p.HTTP, "https://", "http://", 1) + "/healthz")
			if err == nil {
				_ = resp.Body.Close()
			}
			if err != nil || resp.StatusCode != 400 {
				t.Errorf("HTTP without TLS: got %v, %v", resp, err)
			}
			conn, err := grpc.NewClient(p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := completionv1.NewCompletionServiceClient(conn).ListModels(e2etest.ShortContext(t), &completionv1.ListModelsRequest{}); err == nil {
				t.Error("gRPC is spoken without TLS")
			}
		})
	}
}

// checkReused checks that a connection goes on after streams and other answers, in the
// first of protocols.
func checkReused(t *testing.T, p *e2etest.Program, protocols []string) {
	t.Helper()
	config := p.ClientTLS()
	config.NextProtos = protocols
	client := e2etest.NewClient(t, config)
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = len(protocols) > 1
	var reused []bool
	trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) }})
	for _, accept := range []string{"text/event-stream", "text/event-stream", "application/json", "text/event-stream"} {
		req, err := http.NewRequestWithContext(trace, "POST", p.HTTP+"/v1/completions", strings.NewReader(hello))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(body), "STOP") || (resp.ProtoMajor == 2) != (protocols[0] == "h2") {
			t.Errorf("%q: got %s, %s, %v", protocols, resp.Proto, body, err)
		}
	}
	if got := fmt.Sprint(reused); got != "[false true true true]" {
		t.Errorf("%q: the connection is one from before: %s", protocols, got)
	}
}

// TestWrongServerCertificate checks that a bridge sends nothing to a server whose
// certificate is of another authority, or for another name, and tells why not.
func TestWrongServerCertificate(t *testing.T) {
	s := e2etest.NewSecured(t)
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}, TLS: s}
	p.GRPC = e2etest.StartOne(t, p, nil, append([]string{"server", "--grpc=127.0.0.1:0"}, s.Args()...)...)[0]
	other := e2etest.NewSecured(t)
	for name, tt := range map[string]struct{ arg, says string }{
		"another authority": {"--server-ca=" + other.Files.CA, "certificate signed by unknown authority"},
		"the system's":      {"--server-tls", "certificate signed by unknown authority"},
		"no TLS":            {"--commit-window=5s", "server preface"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
			b.HTTP = e2etest.StartOne(t, b, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.GRPC, tt.arg)[0]
			if resp := b.Post(t, hello); resp.StatusCode != 503 {
				t.Errorf("got %s", resp.Status)
			}
			if log := b.Log.String(); !strings.Contains(log, tt.says) {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

// TestClientCertificates checks that a certificate tells who calls, on both faces of one
// process and on a server's; that health and the page need none; that one of another
// authority ends the handshake; and that a bridge's is not its clients'.
func TestClientCertificates(t *testing.T) {
	s, clients, others := e2etest.NewSecured(t), testbed.NewAuthority(t), testbed.NewAuthority(t)
	ca := t.TempDir() + "/clients.pem"
	testbed.WriteFile(t, ca, clients.PEM())
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}, TLS: s}
	addrs := e2etest.StartOne(t, p, nil, append(s.Args(), "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--echo-interval=0s", "--tls-client-ca="+ca)...)
	p.HTTP, p.GRPC = addrs[0], addrs[1]
	as := func(by *testbed.Authority, names ...string) *e2etest.Program {
		config := by.Client(t, names...)
		config.RootCAs = s.Authority.Pool()
		return &e2etest.Program{HTTP: p.HTTP, GRPC: p.GRPC, TLS: &e2etest.Secured{Authority: s.Authority, Client: e2etest.NewClient(t, config), Config: config}}
	}
	one, two, nobody, stranger := as(clients, "spiffe://test/one", "one"), as(clients, "two"), as(clients), as(others, "spiffe://test/one")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 200, "/v1/models": 401} {
		if resp := nobody.Send(t.Context(), t, "GET", path, ""); resp.StatusCode != want {
			t.Errorf("without a certificate, %s: %s", path, resp.Status)
		}
	}
	for _, face := range faces {
		a, err := face.ask(e2etest.ShortContext(t), one, hello)
		if err != nil || a.text != "Hello" {
			t.Fatalf("%s: got %+v, %v", face.name, a, err)
		}
		for name, other := range map[string]*e2etest.Program{"nobody": nobody, "a stranger": stranger} {
			a, err := face.ask(e2etest.ShortContext(t), other, hello)
			refused := err == nil && a.status != nil && reason(a.status) == "UNAUTHENTICATED"
			if cut := err != nil || a.status.Code() == codes.Unavailable; refused != (other == nobody) || cut != (other == stranger) {
				t.Errorf("%s as %s: got %+v, %v", face.name, name, a, err)
			}
		}
		if a.id == "" {
			continue // gRPC says it in the header alone
		}
		for caller, want := range map[*e2etest.Program]int{one: 200, two: 404} {
			if resp := caller.Send(t.Context(), t, "GET", "/v1/completions/"+a.id, ""); resp.StatusCode != want {
				t.Errorf("%s: got %s, want %d", face.name, resp.Status, want)
			}
		}
	}

	cert, key := clients.Issue(t, "bridge")
	dir := t.TempDir()
	testbed.WriteFile(t, dir+"/cert.pem", cert)
	testbed.WriteFile(t, dir+"/key.pem", key)
	b := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	b.HTTP = e2etest.StartOne(t, b, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.GRPC, "--server-ca="+s.Files.CA, "--server-cert="+dir+"/cert.pem", "--server-key="+dir+"/key.pem")[0]
	e2etest.Eventually(t, "the bridge is ready", func() bool { return e2etest.StatusOf(t, b.HTTP+"/readyz") == 200 })
	if resp := b.Post(t, hello); resp.StatusCode != 401 {
		t.Errorf("a client of the bridge without a key: got %s", resp.Status)
	}
}

// renewals is how often certificates are renewed in TestRenewal.
const renewals = 2

// TestRenewal renews the certificate while streams of each kind go on and connections are
// opened all the time: none is cut, and the new ones see the new certificate.
func TestRenewal(t *testing.T) {
	t.Parallel() // it waits for most of its time
	for _, layout := range e2etest.OverTLS {
		t.Run(layout, func(t *testing.T) {
			proceed := make(chan struct{})
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				for i := 0; ; i++ {
					select {
					case <-proceed:
						e2etest.Chunk(w, `{}`, "stop")
						return
					case <-r.Context().Done():
						return
					case <-time.After(5 * time.Millisecond):
						e2etest.Say(w, "x")
					}
				}
			})
			p := e2etest.Start(t, layout, u.Env())
			var streams sync.WaitGroup
			for i := range 24 {
				ask := faces[i%len(faces)].ask
				streams.Go(func() {
					if a, err := ask(t.Context(), p, e2etest.Question); err != nil || a.status != nil || len(a.text) < 2 {
						t.Errorf("a stream is cut: %+v, %v", a, err)
					}
				})
			}
			e2etest.Eventually(t, "all streams run", func() bool { return u.Open.Load() == 24 })
			ctx, stop := context.WithCancel(t.Context())
			var opening sync.WaitGroup
			for range 2 {
				opening.Go(func() { openAll(ctx, t, p) })
			}
			_, addr, _ := strings.Cut(p.HTTP, "://")
			before := ""
			for range renewals {
				for _, addr := range []string{addr, p.GRPC} {
					e2etest.Eventually(t, "the new certificate is shown", func() bool { return e2etest.ShownBy(t, p, addr) != before })
				}
				before = e2etest.ShownBy(t, p, addr)
				p.TLS.Files.Renew(t, p.TLS.Authority)
			}
			e2etest.Eventually(t, "the last certificate is shown", func() bool { return e2etest.ShownBy(t, p, addr) != before })
			stop()
			opening.Wait()
			close(proceed)
			streams.Wait()
			if n := strings.Count(p.Log.String(), "certificates are read again"); n < renewals {
				t.Errorf("certificates were read again %d times", n)
			}
		})
	}
}

// openAll opens connections to both faces, one after the other, until the context is done.
func openAll(ctx context.Context, t *testing.T, p *e2etest.Program) {
	_, addr, _ := strings.Cut(p.HTTP, "://")
	for ctx.Err() == nil {
		for _, addr := range []string{addr, p.GRPC} {
			d := tls.Dialer{Config: p.ClientTLS()}
			c, err := d.DialContext(ctx, "tcp", addr)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("a connection that is opened during a renewal: %v", err)
				}
				return
			}
			_ = c.Close()
			time.Sleep(time.Millisecond) // leaves others a processor
		}
	}
}
