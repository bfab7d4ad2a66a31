package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// spoken is an upstream that begins each completion, and ends it when it is told to.
type spoken struct {
	*e2etest.Upstream
	finish chan struct{}
}

func newSpoken(t *testing.T) *spoken {
	s := &spoken{finish: make(chan struct{})}
	s.Upstream = e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		e2etest.Say(w, "some ")
		select {
		case <-s.finish:
			e2etest.Chunk(w, `{"content":"text"}`, "stop")
		case <-r.Context().Done():
		}
	})
	return s
}

// TestLimitsOfWhatRuns reaches each limit of what may be at the same time, and asks for
// one more on each face: that is refused, and nothing of it comes to the upstream; what
// runs goes on to its end, and then there is room again.
func TestLimitsOfWhatRuns(t *testing.T) {
	for _, layout := range layouts {
		for flag, want := range map[string]string{"--max-running": "OVERLOADED", "--max-running-per-principal": "RATE_LIMITED"} {
			t.Run(layout+"/"+flag, func(t *testing.T) {
				t.Parallel()
				const most = 2
				u := newSpoken(t)
				p := e2etest.Start(t, layout, u.Env(), fmt.Sprintf("%s=%d", flag, most))
				answers := make(chan *answer, most)
				for i := range most {
					go func() {
						a, err := faces[2*i].ask(t.Context(), p, e2etest.Question) // SSE and gRPC
						if err != nil {
							t.Error(err)
						}
						answers <- a
					}()
				}
				e2etest.Eventually(t, "as many run as may", func() bool { return u.Open.Load() == most })
				for _, face := range faces {
					a, err := face.ask(e2etest.ShortContext(t), p, e2etest.Question)
					if err != nil {
						t.Fatalf("%s: %v", face.name, err)
					}
					checkLimited(t, face, a, want)
				}
				if n := u.Calls.Load(); n != most {
					t.Errorf("%d calls upstream", n)
				}
				if e2etest.StatusOf(t, p.HTTP+"/readyz") != 200 || e2etest.StatusOf(t, p.HTTP+"/v1/models") != 200 {
					t.Error("other requests are harmed")
				}
				close(u.finish)
				for range most {
					if a := <-answers; a == nil || a.status != nil || a.text != "some text" {
						t.Errorf("what ran: %v", a)
					}
				}
				for _, face := range faces {
					if a, err := face.ask(t.Context(), p, e2etest.Question); err != nil || a.status != nil {
						t.Errorf("%s: there is no room again: %v, %v", face.name, a, err)
					}
				}
			})
		}
	}
}

// checkLimited checks a refusal for a limit.
func checkLimited(t *testing.T, face face, a *answer, want string) {
	t.Helper()
	if a.status == nil || reason(a.status) != want || a.status.Code() != codes.ResourceExhausted || retryDelay(a.status) <= 0 || len(a.events) > 0 || a.id != "" {
		t.Errorf("%s: got %v, want %s", face.name, a, want)
		return
	}
	if a.header != nil {
		checkRefusal(t, face, a, 429, true)
	}
}

// TestLimitOfReaders has a completion read by as many as may, and by one more in each way.
func TestLimitOfReaders(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			u := newSpoken(t)
			p := e2etest.Start(t, layout, u.Env(), "--max-readers=2")
			request := repeatable("m", "key")
			first := p.Post(t, request)
			r := reader{p: p, request: request, id: strings.TrimPrefix(first.Header.Get("Location"), "/v1/completions/")}
			ctx, leave := context.WithCancel(t.Context())
			begun, left := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(left)
				second := r
				second.answered = func() { close(begun) }
				_, _ = second.get(ctx)
			}()
			<-begun
			for _, way := range ways {
				got, err := way.read(r, e2etest.ShortContext(t))
				if err != nil || got.status == nil || reason(got.status) != "RATE_LIMITED" || retryDelay(got.status) <= 0 || got.http != 0 && got.http != 429 {
					t.Errorf("%s: got %v, %v", way.name, got, err)
				}
			}
			leave()
			<-left
			// The server learns of the departure in its own time.
			third := make(chan *passage, 1)
			e2etest.Eventually(t, "there is room again", func() bool {
				begun := make(chan struct{})
				again, refused := r, make(chan bool, 1)
				again.answered = func() { close(begun) }
				go func() {
					got, _ := again.get(t.Context())
					if refused <- got.http == 429; got.http == 200 {
						third <- got
					}
				}()
				select {
				case no := <-refused:
					return !no
				case <-begun:
				}
				select {
				case no := <-refused:
					return !no
				case <-time.After(100 * time.Millisecond): // it reads
					return true
				}
			})
			close(u.finish)
			if got, err := e2etest.Messages(first.Body); err != nil || got[len(got)-1].Event != "finished" {
				t.Errorf("the first: %v, %v", got, err)
			}
			if got := <-third; !ended(got.events) {
				t.Errorf("the third: %v", got)
			}
			if n := u.Calls.Load(); n != 1 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}

// TestLimitOfRate calls more often than a caller may, waits for as long as it is told to,
// and is taken again.
func TestLimitOfRate(t *testing.T) {
	for _, layout := range layouts {
		for _, face := range faces {
			t.Run(layout+"/"+face.name, func(t *testing.T) {
				t.Parallel()
				p := e2etest.Start(t, layout, nil, "--rate=1", "--rate-burst=3", "--echo-interval=0s")
				const request = `{"prompt":"Hi","idempotencyKey":"k"}`
				var a *answer
				for calls := 0; a == nil || a.status == nil; calls++ {
					var err error
					if a, err = face.ask(t.Context(), p, request); err != nil {
						t.Fatal(err)
					}
					if calls < 3 && a.status != nil || calls > 100 {
						t.Fatalf("call %d: %v", calls, a.status)
					}
				}
				if wait := retryDelay(a.status); wait > 1100*time.Millisecond {
					t.Errorf("wait %v", wait)
				}
				checkLimited(t, face, a, "RATE_LIMITED")
				if e2etest.StatusOf(t, p.HTTP+"/readyz") != 200 || e2etest.StatusOf(t, p.HTTP+"/healthz") != 200 {
					t.Error("health checks are refused, too")
				}
				key := &completionv1.CancelCompletionRequest{IdempotencyKey: "k"}
				if _, err := p.Client(t).CancelCompletion(t.Context(), key); err != nil {
					t.Errorf("to cancel is refused, too: %v", err)
				}
				time.Sleep(retryDelay(a.status))
				if a, err := face.ask(t.Context(), p, request); err != nil || a.status != nil {
					t.Errorf("in time: %v, %v", a, err)
				}
			})
		}
	}
}

// TestLimitsOfRequests asks for as much as a request may ask for, and for one more.
func TestLimitsOfRequests(t *testing.T) {
	message := func(n int) string { // of n bytes as protobuf
		return `{"role":"user","content":"` + strings.Repeat("x", n-len("..user..")) + `"}`
	}
	for _, tc := range []struct{ flag, most, more, field string }{
		{"--max-tokens=7", `"max_tokens":7,"prompt":"x"`, `"max_tokens":8,"prompt":"x"`, "max_tokens"},
		{"--max-tokens=7", `"max_completion_tokens":7,"messages":[` + message(10) + `]`, `"max_completion_tokens":8,"messages":[` + message(10) + `]`, "max_completion_tokens"},
		{"--max-messages=2", `"messages":[` + message(10) + `,` + message(10) + `]`, `"messages":[` + message(10) + `,` + message(10) + `,` + message(10) + `]`, "messages"},
		{"--max-message-bytes=100", `"messages":[` + message(100) + `]`, `"messages":[` + message(10) + `,` + message(101) + `]`, "messages[1]"},
		{"--max-message-bytes=100", `"prompt":"` + strings.Repeat("x", 100) + `"`, `"prompt":"` + strings.Repeat("x", 101) + `"`, "prompt"},
	} {
		for _, layout := range layouts {
			t.Run(layout+"/"+tc.flag+" "+tc.field, func(t *testing.T) {
				t.Parallel()
				u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
					if tc.field == "prompt" || tc.field == "max_tokens" {
						e2etest.Body("data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\n")(w, nil)
						return
					}
					e2etest.Chunk(w, `{"content":"a"}`, "stop")
				})
				p := e2etest.Start(t, layout, u.Env(), tc.flag)
				for i, face := range faces {
					a, err := face.ask(t.Context(), p, `{"model":"m",`+tc.more+`}`)
					if err != nil {
						t.Fatal(err)
					}
					if a.status == nil || reason(a.status) != "INVALID_REQUEST" || strings.Join(fields(a.status), " ") != tc.field {
						t.Errorf("%s: got %v, want %s", face.name, a, tc.field)
					} else if a.header != nil {
						checkRefusal(t, face, a, 400, true)
					}
					if a, err := face.ask(t.Context(), p, `{"model":"m",`+tc.most+`}`); err != nil || a.status != nil {
						t.Errorf("%s: as much as may be: %v, %v", face.name, a, err)
					}
					if n := u.Calls.Load(); n != int64(i+1) {
						t.Errorf("%s: %d calls upstream", face.name, n)
					}
				}
			})
		}
	}
}

// TestLimitOfEvents has a completion say more than is kept of one: it fails, on each face,
// and another one, which says as much as may be, does not.
func TestLimitOfEvents(t *testing.T) {
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		says := 6
		if e2etest.ModelOf(r) == "long" {
			says = 100
		}
		for range says {
			e2etest.Say(w, strings.Repeat("x", 1<<10))
		}
		e2etest.Chunk(w, `{}`, "stop")
	})
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, u.Env(), "--max-completion-bytes=16KiB")
			for _, face := range faces {
				a, err := face.ask(t.Context(), p, strings.Replace(e2etest.Question, `"m"`, `"long"`, 1))
				if err != nil || a.status == nil || reason(a.status) != "OVERLOADED" || a.id == "" {
					t.Errorf("%s: got %v, %v", face.name, a, err)
				}
				if a, err := face.ask(t.Context(), p, e2etest.Question); err != nil || a.status != nil || len(a.text) != 6<<10 {
					t.Errorf("%s: as much as may be: %v, %v", face.name, a, err)
				}
			}
		})
	}
}

// TestMaxTokensGoesUpstream checks that a request which sets no limit of tokens has the
// server's.
func TestMaxTokensGoesUpstream(t *testing.T) {
	d := e2etest.NewDictation(t)
	p := e2etest.Start(t, "one process", d.Env(), "--max-tokens=7", "--commit-window=10ms") // as it says nothing
	resp := p.Post(t, e2etest.Question)
	if sent := <-d.Requests; !strings.Contains(sent, `"max_tokens":7`) {
		t.Errorf("sent %s", sent)
	}
	d.End()
	if _, err := e2etest.Messages(resp.Body); err != nil {
		t.Error(err)
	}
}
