package bridge_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge"
)

// TestObserve checks what is told of requests, once of each, whether net/http has the
// response or it has a connection of its own, and that what an observer adds to the
// header reaches the server.
func TestObserve(t *testing.T) {
	const trace = "00-11111111111111111111111111111111-2222222222222222-01"
	const body = `{"prompt":"x"}`
	failure := failed(codes.Unavailable, "IDLE_TIMEOUT")
	whole := func(s eventStream) error {
		return errors.Join(named(s, "cmpl_x"), created(s), finished(s, 2))
	}
	for _, tt := range []struct {
		name, method, path, accept, body string
		play                             func(eventStream) error
		leave                            bool
		want                             bridge.Answer
		reason, limit                    string
	}{
		{"a stream", "POST", "/v1/completions", "", body, whole, false, bridge.Answer{Route: "/v1/completions", Status: 200, ID: "cmpl_x"}, "", ""},
		{"one that fails", "POST", "/v1/completions", "", body, func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
				return err
			}
			return failure
		}, false, bridge.Answer{Route: "/v1/completions", Status: 200, ID: "cmpl_x", Err: failure}, "IDLE_TIMEOUT", ""},
		{"one that is left", "POST", "/v1/completions", "", body, func(s eventStream) error {
			err := errors.Join(named(s, "cmpl_x"), created(s))
			<-s.Context().Done()
			return err
		}, true, bridge.Answer{Route: "/v1/completions", Status: 200, ID: "cmpl_x", Cut: true}, "", ""},
		{"the whole", "POST", "/v1/completions", "application/json", body, func(eventStream) error { return nil }, false, bridge.Answer{Route: "/v1/completions", Status: 200}, "", ""},
		{"a refused stream", "GET", "/v1/completions/cmpl_x/events", "", "", func(eventStream) error { return failure }, false,
			bridge.Answer{Route: "/v1/completions/{id=*}/events", Status: 503, Err: failure}, "IDLE_TIMEOUT", ""},
		{"no such path", "GET", "/v2/x?key=secret", "", "", nil, false, bridge.Answer{Status: 404, Err: failure}, "INVALID_REQUEST", ""},
		{"a form", "POST", "/openai/v1/chat/completions", "", "x", nil, false, bridge.Answer{Route: "/openai/v1/chat/completions", Status: 400, Err: failure}, "INVALID_REQUEST", ""},
		{"alive", "GET", "/healthz", "", "", nil, false, bridge.Answer{Route: "/healthz", Status: 200}, "", ""},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(tt.name+"/"+protocol, func(t *testing.T) {
				answers, got := make(chan bridge.Answer, 2), metadata.MD{}
				s := serveBridge(t, newBridge(t, func(s eventStream) error {
					got, _ = metadata.FromIncomingContext(s.Context())
					return tt.play(s)
				}, bridge.Config{Observe: func(r *http.Request) func(bridge.Answer) {
					r.Header.Set("Traceparent", trace)
					return func(a bridge.Answer) { answers <- a }
				}}), func(s *http.Server) {
					s.Protocols = &http.Protocols{}
					s.Protocols.SetHTTP1(true)
					s.Protocols.SetUnencryptedHTTP2(true)
				})
				transport := &http.Transport{Protocols: &http.Protocols{}}
				transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
				transport.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
				defer transport.CloseIdleConnections()
				req, err := http.NewRequest(tt.method, "http://"+s.addr+tt.path, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", tt.accept)
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if !tt.leave {
					_, _ = io.Copy(io.Discard, resp.Body)
				}
				resp.Body.Close()
				var a bridge.Answer
				select {
				case a = <-answers:
				case <-time.After(10 * time.Second):
					t.Fatal("nothing was told")
				}
				reason, limit := a.Info()
				if reason != tt.reason || limit != tt.limit {
					t.Errorf("reason %q, limit %q", reason, limit)
				}
				if tt.want.Err == nil {
					tt.want.Err = a.Err // of a departure, whatever it is
					if !tt.leave && a.Err != nil {
						t.Errorf("an error: %v", a.Err)
					}
				} else if a.Err != nil {
					tt.want.Err = a.Err
				}
				if a != tt.want {
					t.Errorf("got %+v, want %+v", a, tt.want)
				}
				if tt.play != nil && strings.Join(got.Get("traceparent"), "") != trace {
					t.Errorf("the server got %v", got)
				}
				select {
				case a = <-answers:
					t.Errorf("and again: %+v", a)
				default:
				}
			})
		}
	}
}
