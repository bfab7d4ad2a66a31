package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// touch is a way to get at a completion by its id, or by its idempotency key. It returns
// all that the caller is told.
type touch struct {
	name string
	do   func(ctx context.Context, p *e2etest.Program, conn *grpc.ClientConn, id, key string) (string, error)
}

// touches are all there are.
var touches = []touch{
	touchHTTP("get", "GET", "/v1/completions/ID", ""),
	touchHTTP("head", "HEAD", "/v1/completions/ID", ""),
	touchHTTP("events", "GET", "/v1/completions/ID/events", ""),
	touchHTTP("head of events", "HEAD", "/v1/completions/ID/events", ""),
	touchHTTP("events after a cursor", "GET", "/v1/completions/ID/events", "", "Last-Event-ID", "ID_1"),
	touchHTTP("events after a cursor that is ahead", "GET", "/v1/completions/ID/events", "", "Last-Event-ID", "ID_1000"),
	touchHTTP("events after a cursor in the query", "GET", "/v1/completions/ID/events?last_event_id=ID_2", ""),
	touchHTTP("POST with a cursor", "POST", "/v1/completions", e2etest.Question, "Last-Event-ID", "ID_1"),
	touchHTTP("cancel", "POST", "/v1/completions/ID:cancel", ""),
	touchHTTP("cancel by key", "POST", "/v1/completions:cancel", `{"idempotencyKey":"KEY"}`),
	touchHTTP("cancel by id in the body", "POST", "/v1/completions:cancel", `{"id":"ID"}`),
	touchGRPC("GetCompletion", func(ctx context.Context, c completionv1.CompletionServiceClient, id, _ string) error {
		_, err := c.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: id})
		return err
	}),
	touchGRPC("ResumeCompletion", func(ctx context.Context, c completionv1.CompletionServiceClient, id, _ string) error {
		stream, err := c.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id, AfterSequence: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}),
	touchGRPC("CancelCompletion", func(ctx context.Context, c completionv1.CompletionServiceClient, id, _ string) error {
		_, err := c.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{Id: id})
		return err
	}),
	touchGRPC("CancelCompletion by key", func(ctx context.Context, c completionv1.CompletionServiceClient, _, key string) error {
		_, err := c.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{IdempotencyKey: key})
		return err
	}),
}

func touchHTTP(name, method, path, body string, header ...string) touch {
	return touch{name, func(ctx context.Context, p *e2etest.Program, _ *grpc.ClientConn, id, key string) (string, error) {
		fill := strings.NewReplacer("ID", id, "KEY", key).Replace
		req, err := http.NewRequestWithContext(ctx, method, p.HTTP+fill(path), strings.NewReader(fill(body)))
		if err != nil {
			return "", err
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header[header[i]] = []string{fill(header[i+1])}
		}
		req.Header.Set("X-Request-Id", "the-same")
		e2etest.Authorize(ctx, req.Header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		reply, err := io.ReadAll(resp.Body)
		resp.Header.Del("Date")
		told := fmt.Sprint(resp.Status, " ", resp.Header, string(reply))
		return strings.ReplaceAll(told, id, "ID"), err
	}}
}

func touchGRPC(name string, call func(ctx context.Context, c completionv1.CompletionServiceClient, id, key string) error) touch {
	return touch{name, func(ctx context.Context, _ *e2etest.Program, conn *grpc.ClientConn, id, key string) (string, error) {
		st := status.Convert(call(ctx, completionv1.NewCompletionServiceClient(conn), id, key))
		return strings.ReplaceAll(fmt.Sprint(st.Code(), st.Message(), st.Details()), id, "ID"), nil
	}}
}

// never is the id of a completion that never was.
const never = "cmpl_AAAAAAAAAAAAAAAAAAAAAAAAAA"

// TestOthersCompletions has strangers reach for somebody's completion, while it runs and
// when it has ended, in every way: to them, it does not exist. To its owner it does, on
// either face, and nothing has become of it.
func TestOthersCompletions(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			keys, issuer := e2etest.NewKeyring(t, "alice", "bob", "carl"), testbed.NewIssuer(t)
			u := newSpoken(t)
			p := e2etest.Start(t, layout, u.Env(), append(e2etest.TokenFlags(issuer.File()), keys.Flag(), "--allow-anonymous")...)
			conn := p.Conn(t)
			request := keyed("m", `,"idempotency_key":"a key","disconnect_grace":"60s"`)
			first := p.Post(t, request, "Authorization", keys.Of("alice"))
			id := strings.TrimPrefix(first.Header.Get("Location"), "/v1/completions/")
			strangers := map[string]context.Context{
				"bob":              e2etest.As(t.Context(), keys.Of("bob")),
				"a token of alice": e2etest.As(t.Context(), "Bearer "+issuer.Token("alice")), // who is another alice
				"anonymous":        t.Context(),
			}
			for _, when := range []string{"running", "ended"} {
				for who, ctx := range strangers {
					for _, touch := range touches {
						mine, err := touch.do(ctx, p, conn, id, "a key")
						if err != nil {
							t.Fatalf("%s, %s: %v", who, touch.name, err)
						}
						none, err := touch.do(ctx, p, conn, never, "no key")
						if err != nil {
							t.Fatalf("%s, %s: %v", who, touch.name, err)
						}
						if mine != none || !strings.Contains(mine, "404") && !strings.Contains(mine, "NotFound") {
							t.Errorf("%s, %s, %s: got\n%s\nand for what never was\n%s", when, who, touch.name, mine, none)
						}
					}
				}
				if when == "ended" {
					break
				}
				if n := u.Open.Load(); n != 1 {
					t.Fatalf("%d completions run upstream, after strangers have reached for one", n)
				}
				checkAttachesOwn(t, p, keys, id, request, u)
				close(u.finish)
				if all, err := e2etest.Messages(first.Body); err != nil || !ended(all) || strings.Contains(all[len(all)-1].Data, "CANCELLED") {
					t.Errorf("the owner's stream: %q, %v", all, err)
				}
			}
			owner := e2etest.As(t.Context(), keys.Of("alice"))
			for _, touch := range touches {
				told, err := touch.do(owner, p, conn, id, "a key")
				if err != nil || strings.Contains(told, "404") || strings.Contains(told, "NotFound") {
					t.Errorf("the owner, %s: %s, %v", touch.name, told, err)
				}
			}
		})
	}
}

// checkAttachesOwn checks that the same key is one completion for one caller, on all faces, and
// another one for another caller. There is one of alice's, which runs.
func checkAttachesOwn(t *testing.T, p *e2etest.Program, keys *e2etest.Keyring, id, request string, u *spoken) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	ids := func(who string) (got []string) {
		for _, way := range ways[:2] { // over HTTP, and over gRPC
			begun := make(chan struct{})
			r := reader{p: p, request: request, answered: func() { close(begun) }}
			passages := make(chan *passage, 1)
			reading, stop := context.WithCancel(e2etest.As(ctx, keys.Of(who)))
			go func() {
				passage, _ := way.read(r, reading)
				passages <- passage
			}()
			select {
			case <-begun:
			case <-time.After(10 * time.Second):
				t.Errorf("%s, %s: no answer", who, way.name)
			}
			stop()
			got = append(got, (<-passages).id)
		}
		return got
	}
	if got := ids("alice"); got[0] != id || got[1] != id {
		t.Errorf("alice's key is of %v, not of %s", got, id)
	}
	if got := ids("carl"); got[0] == id || got[0] != got[1] || got[0] == "" {
		t.Errorf("carl's key is of %v, and alice's of %s", got, id)
	}
	if n := u.Calls.Load(); n != 2 {
		t.Errorf("%d calls upstream, for a key of two callers", n)
	}
}

// TestNotYoursTakesAsLong reaches for another's completion, and for one that never was, in
// turn, ten thousand times each: no caller can tell them apart by the time. What is
// compared is how often one of a pair takes longer than the other (the statistic of Mann
// and Whitney), which neither a slow machine nor a pause changes: one half, if both are
// the same. A difference of a twentieth of what times differ by themselves is seen.
func TestNotYoursTakesAsLong(t *testing.T) {
	tries := 10_000
	if underRace {
		tries = 1_000 // it takes ten times as long
	}
	keys := e2etest.NewKeyring(t, "alice", "bob")
	u := newSpoken(t)
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, u.Env(), keys.Flag())
		conn := p.Conn(t)
		running := p.Post(t, keyed("m", `,"idempotency_key":"a key"`), "Authorization", keys.Of("alice"))
		id := strings.TrimPrefix(running.Header.Get("Location"), "/v1/completions/")
		bob := e2etest.As(t.Context(), keys.Of("bob"))
		for _, touch := range touches {
			// Over gRPC, the second layout is the first.
			if touch.name != "events after a cursor" && (touch.name != "CancelCompletion" || layout != layouts[0]) {
				continue
			}
			var took [2][]float64
			for i := range 2 * tries {
				// In an order that repeats no pattern of the machine: 01 10 10 01 …
				which := (i ^ i>>1 ^ i>>2 ^ i>>3 ^ i>>4) & 1
				id, key := [2]string{id, never}[which], [2]string{"a key", "no key"}[which]
				begun := time.Now()
				if _, err := touch.do(bob, p, conn, id, key); err != nil {
					t.Fatal(err)
				}
				took[which] = append(took[which], float64(time.Since(begun)))
			}
			longer := superiority(took[0], took[1])
			t.Logf("%s, %s: another's takes longer in %.2f %% of all pairs; medians %v and %v of %d and %d", layout, touch.name,
				100*longer, median(took[0]), median(took[1]), len(took[0]), len(took[1]))
			// Of so many, it differs from one half by more than this once in a million times
			// (five standard deviations), if both are the same.
			bound := 5 * math.Sqrt(1/(6*float64(tries)))
			if math.Abs(longer-0.5) > bound {
				t.Errorf("%s, %s: another's takes longer in %.2f %% of all pairs", layout, touch.name, 100*longer)
			}
		}
	}
	close(u.finish)
}

// superiority is how often a value of the first is greater than one of the second.
func superiority(first, second []float64) float64 {
	first, second = slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(second))
	below, equal, sum := 0, 0, 0.0
	for _, v := range first {
		for below < len(second) && second[below] < v {
			below++
		}
		for equal = max(equal, below); equal < len(second) && second[equal] == v; {
			equal++
		}
		sum += float64(below) + float64(equal-below)/2
	}
	return sum / float64(len(first)) / float64(len(second))
}

func median(values []float64) time.Duration {
	return time.Duration(slices.Sorted(slices.Values(values))[len(values)/2])
}
