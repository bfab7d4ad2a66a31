package e2e

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// reasonsOfCalls are those with which a call can fail, or the reading of a completion, and
// no completion can end.
var reasonsOfCalls = []string{
	"unauthenticated", "completion_not_found", "cursor_ahead", "events_expired", "idempotency_key_reused", "rate_limited", "slow_reader",
}

// TestOutcomesAreAll checks that no reason of the API is forgotten in the tables.
func TestOutcomesAreAll(t *testing.T) {
	words := []string{"error_reason_unspecified", "owner_lost"}
	words = append(words, reasonsOfCalls...)
	for _, e := range waysToEnd() {
		words = append(words, e.word)
	}
	for _, name := range completionv1.ErrorReason_name {
		if !slices.Contains(words, strings.ToLower(name)) {
			t.Errorf("no completion ends with %s", name)
		}
	}
}

// TestOwnerLostHasOneWord is the line of TestOutcomeHasOneWord for a completion whose server
// is killed: the server that writes its end for it tells operators of it, too. The span is
// that of the call that reads it, as the completion's own is gone with its server.
func TestOwnerLostHasOneWord(t *testing.T) {
	t.Parallel() // it waits for most of its time
	u := e2etest.NewUpstream(t, talk(50*time.Millisecond))
	store := testbed.StartRedis(t)
	owner := testbed.Start(t, "sluice server --grpc=127.0.0.1:0 --openai-base-url="+u.URL+"/v1 --journal="+store.URL)
	conn, err := grpc.NewClient(owner.Addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := newCollector(t)
	other := testbed.Start(t, "main server --grpc=127.0.0.1:0 --shutdown-delay=0s --journal="+store.URL, exportsTo+"="+c.URL)
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}, GRPC: other.Addrs[0]}
	p.HTTP = e2etest.StartOne(t, p, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.GRPC)[0]

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, _, err := (&instance{owner, completionv1.NewCompletionServiceClient(conn), ""}).begin(ctx, "m", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	resp := p.Send(ctx, t, "GET", "/v1/completions/"+id+"/events", "")
	owner.Signal(syscall.SIGKILL)
	overHTTP := lastWord(resp)
	stream, err := p.Client(t).ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	_, st, err := rest(stream, 0)
	if err != nil {
		t.Fatal(err)
	}
	owner.Wait()
	other.Signal(syscall.SIGTERM)
	if end := other.Wait(); !end.Success() {
		t.Error(end)
	}
	const want = "owner_lost"
	overGRPC, metric := strings.ToLower(reason(st)), strings.Join(c.labels("sluice.completions", "outcome"), "+")
	span, log := wordsOf(c.of(tracepb.Span_SPAN_KIND_SERVER, "rpc.method"), "error.type"), strings.Join(loggedOutcomes(other.Log()), "+")
	t.Logf("%-24s %-24s %-24s %-24s %-24s %s", want, overGRPC, overHTTP, metric, span, log)
	for _, got := range []string{overGRPC, overHTTP, metric, span, log} {
		if got != want {
			t.Errorf("it is called %s, want %s", got, want)
		}
	}
}
