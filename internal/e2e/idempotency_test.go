package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// keyed is a request with the members that follow, such as its key.
func keyed(model, members string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hi"}]%s}`, model, members)
}

// gated starts an upstream that says hello, goes on when the gate is closed, and
// then ends. With the model "refused" it refuses, with "breaks" it ends too soon.
func gated(t *testing.T) (u *e2etest.Upstream, gate chan struct{}) {
	t.Helper()
	gate = make(chan struct{})
	u = e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		model := e2etest.ModelOf(r)
		if model == "refused" {
			e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "7")(w, r)
			return
		}
		e2etest.Say(w, "Hello")
		if model == "waits" {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
		}
		e2etest.Say(w, " you")
		if model != "breaks" {
			e2etest.Chunk(w, `{}`, "stop")
		}
	})
	return u, gate
}

// TestOneKeyAtOnce posts one request many times at once, with the key in the
// header, in the body or in both.
func TestOneKeyAtOnce(t *testing.T) {
	const posts = 50
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u, gate := gated(t)
			p := e2etest.Start(t, layout, u.Env())
			bodies := make([]string, posts)
			var answered, done sync.WaitGroup
			answered.Add(posts)
			for i := range posts {
				body, header := keyed("waits", `,"idempotency_key":"a key"`), []string(nil)
				if i%3 > 0 {
					header = []string{"Idempotency-Key", "a key"}
				}
				if i%3 > 1 {
					body = keyed("waits", "")
				}
				begins := sync.OnceFunc(answered.Done)
				done.Go(func() {
					defer begins()
					resp := p.Post(t, body, header...)
					begins()
					b, err := io.ReadAll(resp.Body)
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("%s: %v", resp.Status, err)
					}
					bodies[i] = string(b)
				})
			}
			answered.Wait()
			close(gate)
			done.Wait()
			late, _ := io.ReadAll(p.Post(t, keyed("waits", `,"idempotencyKey":"a key"`)).Body)
			slices.Sort(bodies)
			if different := slices.Compact(append(bodies, string(late))); len(different) != 1 {
				t.Errorf("%d different bodies, such as %q", len(different), different[:2])
			}
			if whole, err := e2etest.Messages(strings.NewReader(bodies[0])); err != nil || !ended(whole) || len(whole) != 4 {
				t.Errorf("the stream is %q, %v", whole, err)
			}
			if n := u.Calls.Load(); n != 1 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}

// TestKeyReused uses a key with another request, while the first runs and after
// it, on both faces.
func TestKeyReused(t *testing.T) {
	others := []struct{ name, body string }{
		{"another model", strings.Replace(keyed("waits", `,"idempotency_key":"k"`), "waits", "m", 1)},
		{"another text", strings.Replace(keyed("waits", `,"idempotency_key":"k"`), "Hi", "Ho", 1)},
		{"another parameter", keyed("waits", `,"idempotency_key":"k","temperature":0`)},
		{"another grace", keyed("waits", `,"idempotency_key":"k","disconnect_grace":"1s"`)},
	}
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u, gate := gated(t)
			p := e2etest.Start(t, layout, u.Env())
			first := p.Post(t, keyed("waits", `,"idempotency_key":"k"`))
			for _, when := range []string{"while it runs", "when it has ended"} {
				for _, other := range others {
					for _, face := range faces {
						a, err := face.ask(e2etest.ShortContext(t), p, other.body)
						if err != nil {
							t.Fatalf("%s, %s, %s: %v", other.name, when, face.name, err)
						}
						if reason(a.status) != "IDEMPOTENCY_KEY_REUSED" || a.header != nil && a.code != 422 {
							t.Errorf("%s, %s, %s: got %d, %v", other.name, when, face.name, a.code, a.status)
						}
					}
				}
				if when == "while it runs" {
					close(gate)
				}
				if _, err := io.Copy(io.Discard, first.Body); err != nil {
					t.Fatal(err)
				}
			}
			if n := u.Calls.Load(); n != 1 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}

// TestKeyOfFailure repeats requests that failed: a refusal, which is a status,
// and a failure in the middle, which is an event.
func TestKeyOfFailure(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u, _ := gated(t)
			p := e2etest.Start(t, layout, u.Env())
			for i, test := range []struct {
				model, reason string
				code          int
			}{
				{"refused", "UPSTREAM_RATE_LIMITED", 429},
				{"breaks", "UPSTREAM_TRUNCATED", 200},
			} {
				request := keyed(test.model, `,"idempotency_key":"`+test.model+`"`)
				var first string
				for n := range 3 {
					resp := p.Post(t, request)
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Fatal(err)
					}
					reply := fmt.Sprint(resp.Status, resp.Header["Location"], resp.Header["Retry-After"], string(body))
					if n == 0 {
						first = reply
					}
					if reply != first || resp.StatusCode != test.code || !strings.Contains(reply, test.reason) {
						t.Errorf("%s, time %d: got %s, before %s", test.model, n+1, reply, first)
					}
				}
				for _, face := range faces {
					a, err := face.ask(e2etest.ShortContext(t), p, request)
					if err != nil {
						t.Fatalf("%s, %s: %v", test.model, face.name, err)
					}
					if reason(a.status) != test.reason {
						t.Errorf("%s, %s: got %v", test.model, face.name, a.status)
					}
				}
				if n := u.Calls.Load(); n != int64(i+1) {
					t.Errorf("%s: %d calls upstream for %d completions", test.model, n, i+1)
				}
			}
		})
	}
}

func TestTwoKeys(t *testing.T) {
	u, _ := gated(t)
	p := e2etest.Start(t, "one process", u.Env())
	resp := p.Post(t, keyed("m", `,"idempotency_key":"one"`), "Idempotency-Key", "two")
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || !strings.Contains(string(b), "INVALID_REQUEST") || u.Calls.Load() != 0 {
		t.Errorf("got %s, %s, %d calls upstream", resp.Status, b, u.Calls.Load())
	}
}

// completionOf asks for a completion in one piece.
func completionOf(t *testing.T, p *e2etest.Program, id string) *completionv1.Completion {
	t.Helper()
	return wholeCompletion(t, p, "GET", "/v1/completions/"+id)
}

func wholeCompletion(t *testing.T, p *e2etest.Program, method, path string) *completionv1.Completion {
	t.Helper()
	resp := p.Send(e2etest.ShortContext(t), t, method, path, "")
	b, err := io.ReadAll(resp.Body)
	c := &completionv1.Completion{}
	if err != nil || resp.StatusCode != 200 || protojson.Unmarshal(b, c) != nil {
		t.Fatalf("%s %s: %s, %s, %v", method, path, resp.Status, b, err)
	}
	return c
}

// TestWalkAway leaves a completion that has a grace, and one that has none, and
// fetches the first one later.
func TestWalkAway(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u, gate := gated(t)
			p := e2etest.Start(t, layout, u.Env())
			stays := readDelta(t, p, keyed("waits", `,"disconnect_grace":"60s"`))
			readDelta(t, p, keyed("waits", ""))
			// It is the one that was left last: so the program knows of the other, too.
			e2etest.Eventually(t, "one of the two ends upstream", func() bool { return u.Open.Load() == 1 })
			if c := completionOf(t, p, stays); c.GetState() != completionv1.Completion_RUNNING || c.GetText() != "Hello" {
				t.Errorf("left alone, it is %v", c)
			}
			close(gate)
			e2etest.Eventually(t, "the completion ends", func() bool { return completionOf(t, p, stays).GetState() != completionv1.Completion_RUNNING })
			c := completionOf(t, p, stays)
			if c.GetState() != completionv1.Completion_FINISHED || c.GetText() != "Hello you" || c.GetFinishReason() != completionv1.Finished_STOP {
				t.Errorf("fetched later, it is %v", c)
			}
			if n := u.Calls.Load(); n != 2 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}

// readDelta reads a stream up to its first delta, leaves, and returns its id.
func readDelta(t *testing.T, p *e2etest.Program, request string) (id string) {
	t.Helper()
	resp := p.Post(t, request)
	if err := firstDelta(resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
}

// TestCancel cancels a completion that has readers on both faces, and a grace
// that is then without effect.
func TestCancel(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u, _ := gated(t)
			p := e2etest.Start(t, layout, u.Env())
			request := keyed("waits", `,"disconnect_grace":"60s","idempotency_key":"k"`)
			id := readDelta(t, p, request)
			passages := make([]*passage, len(ways))
			var answered, done sync.WaitGroup
			for i, way := range ways {
				answered.Add(1)
				begins := sync.OnceFunc(answered.Done)
				done.Go(func() {
					defer begins()
					var err error
					passages[i], err = way.read(reader{p: p, request: request, id: id, answered: begins}, e2etest.ShortContext(t))
					if err != nil {
						t.Errorf("%s: %v", way.name, err)
					}
				})
			}
			answered.Wait()
			c := wholeCompletion(t, p, "POST", "/v1/completions/"+id+":cancel")
			if c.GetState() != completionv1.Completion_CANCELLED || c.GetText() != "Hello" || c.GetLastSequence() != 3 {
				t.Errorf("the answer is %v", c)
			}
			e2etest.Eventually(t, "the completion ends upstream", func() bool { return u.Open.Load() == 0 })
			done.Wait()
			for i, way := range ways {
				events := passages[i].events
				if len(events) != 3 || events[2].Event != "finished" || !strings.Contains(events[2].Data, "CANCELLED") {
					t.Errorf("%s: got %q", way.name, events)
				}
			}
			if again := wholeCompletion(t, p, "POST", "/v1/completions/"+id+":cancel"); again.String() != c.String() {
				t.Errorf("cancelled again, it is %v", again)
			}
		})
	}
}
