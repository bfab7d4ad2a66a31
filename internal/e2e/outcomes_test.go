package e2e

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// wayToEnd is a way for a completion to end.
type wayToEnd struct {
	word   string
	args   []string
	script http.HandlerFunc
	url    func(testing.TB) string
	act    func(t *testing.T, p *e2etest.Program, id string, leave func()) // after the first delta; nil: it ends by itself
	reader string                                                          // the word that a reader gets; "": the same
}

// waysToEnd are all of them, but OWNER_LOST, which needs a server that dies.
func waysToEnd() []wayToEnd {
	all := []wayToEnd{
		{word: "finished", script: func(w http.ResponseWriter, _ *http.Request) {
			e2etest.Say(w, "all")
			e2etest.Chunk(w, `{}`, "stop")
		}},
		{word: "cancelled", script: e2etest.Text(e2etest.Silence), act: func(t *testing.T, p *e2etest.Program, id string, _ func()) {
			p.Send(t.Context(), t, "POST", "/v1/completions/"+id+":cancel", "")
		}},
		// Who reads it later gets to know that it was cut short, as if by a caller.
		{word: "abandoned", reader: "cancelled", script: e2etest.Text(e2etest.Silence), act: func(_ *testing.T, _ *e2etest.Program, _ string, leave func()) { leave() }},
		{word: "draining", script: e2etest.Text(e2etest.Silence), args: []string{"--drain-timeout=100ms"}, act: func(_ *testing.T, p *e2etest.Program, _ string, _ func()) { p.Stop() }},
		{word: "overloaded", args: []string{"--max-completion-bytes=8KiB"}, script: func(w http.ResponseWriter, _ *http.Request) {
			for range 64 {
				e2etest.Say(w, strings.Repeat("long ", 100))
			}
		}},
	}
	for _, f := range failures {
		word := strings.ToLower(f.reason)
		if !slices.ContainsFunc(all, func(e wayToEnd) bool { return e.word == word }) {
			all = append(all, wayToEnd{word: word, args: f.args, script: f.script, url: f.url})
		}
	}
	return all
}

// TestOutcomeHasOneWord makes a table of how a completion's end is called by the status of
// its gRPC stream, the last event over HTTP, the label of the metric, the span and the
// line in the log.
func TestOutcomeHasOneWord(t *testing.T) {
	for _, layout := range layouts {
		t.Logf("%s:\n%-24s %-24s %-24s %-24s %-24s %s", layout, "", "gRPC", "SSE", "metric", "span", "log")
		for _, e := range waysToEnd() {
			t.Run(layout+"/"+e.word, func(t *testing.T) { e.check(t, layout) })
		}
	}
}

func (e *wayToEnd) check(t *testing.T, layout string) {
	env := map[string]string{}
	if e.url != nil {
		env["OPENAI_BASE_URL"] = e.url(t) + "/v1"
	} else {
		env = e2etest.NewUpstream(t, e.script).Env()
	}
	c := collect(t, env)
	p := e2etest.Start(t, layout, env, e.args...)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var overGRPC, overHTTP string
	if e.act == nil {
		overGRPC, overHTTP = e.ask(ctx, t, p, askStream), e.ask(ctx, t, p, askSSE)
	} else {
		overGRPC, overHTTP = e.watch(ctx, t, p)
	}
	select {
	case <-p.Stop():
	case <-ctx.Done():
		t.Fatal("it does not stop")
	}
	reader := e.word
	if e.reader != "" {
		reader = e.reader
	}
	metric := strings.Join(c.labels("sluice.completions", "outcome"), "+")
	span := wordsOf(c.of(tracepb.Span_SPAN_KIND_CLIENT, "gen_ai.response.id"), "sluice.outcome")
	log := strings.Join(loggedOutcomes(p.Log.String()), "+")
	t.Logf("%-24s %-24s %-24s %-24s %-24s %s", e.word, overGRPC, overHTTP, metric, span, log)
	if overGRPC != reader || overHTTP != reader {
		t.Errorf("readers got %s and %s, want %s", overGRPC, overHTTP, reader)
	}
	if metric != e.word || span != e.word || log != e.word {
		t.Errorf("operators got %q, %q and %q, want %s", metric, span, log, e.word)
	}
}

// ask asks for a completion, and returns the word for its end.
func (e *wayToEnd) ask(ctx context.Context, t *testing.T, p *e2etest.Program, ask func(context.Context, *e2etest.Program, string) (*answer, error)) string {
	t.Helper()
	a, err := ask(ctx, p, e2etest.Question)
	if err != nil {
		t.Fatal(err)
	}
	return wordOf(a)
}

// watch asks for a completion that something happens to, and reads it twice.
func (e *wayToEnd) watch(ctx context.Context, t *testing.T, p *e2etest.Program) (overGRPC, overHTTP string) {
	t.Helper()
	reading, leave := context.WithCancel(ctx)
	defer leave()
	stream, err := p.Client(t).StreamCompletion(reading, &completionv1.CompletionRequest{
		Model: "m", Messages: []*completionv1.Message{{Role: "user", Content: proto.String(e2etest.Asked)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var first answer
	for len(first.events) < 2 {
		event, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		first.events = append(first.events, event)
	}
	id := first.events[0].GetCreated().GetId()
	others := make(chan string, 1)
	if e.reader == "" { // else there is to be no other reader until it has ended
		resp := p.Send(ctx, t, "GET", "/v1/completions/"+id+"/events", "")
		go func() { others <- lastWord(resp) }()
	}
	e.act(t, p, id, leave)
	if e.reader != "" {
		e2etest.Eventually(t, "the end", func() bool { return completionOf(t, p, id).GetState() != completionv1.Completion_RUNNING })
		others <- lastWord(p.Send(ctx, t, "GET", "/v1/completions/"+id+"/events", ""))
		if stream, err = p.Client(t).ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			if s, _ := status.FromError(err); len(s.Details()) > 0 {
				first.status = s
			}
			break
		}
		first.events = append(first.events, event)
	}
	return wordOf(&first), <-others
}

// lastWord reads a stream of events to its end.
func lastWord(resp *http.Response) string {
	all, err := e2etest.Messages(resp.Body)
	if err != nil {
		return err.Error()
	}
	last := all[len(all)-1]
	if last.Event == "error" {
		return strings.ToLower(quotedReason.FindStringSubmatch(last.Data)[1])
	}
	if strings.Contains(last.Data, `"CANCELLED"`) {
		return "cancelled"
	}
	return last.Event
}

var (
	quotedReason  = regexp.MustCompile(`"reason":"(\w+)"`)
	loggedOutcome = regexp.MustCompile(` msg=completion .*\boutcome=(\w+)`)
)

// wordOf is the word for the end of an answer.
func wordOf(a *answer) string {
	if a.status != nil {
		for _, d := range a.status.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				return strings.ToLower(info.GetReason())
			}
		}
		return a.status.Code().String()
	}
	switch a.events[len(a.events)-1].GetFinished().GetFinishReason() {
	case completionv1.Finished_FINISH_REASON_UNSPECIFIED:
		return "cut"
	case completionv1.Finished_CANCELLED:
		return "cancelled"
	}
	return "finished"
}

// wordsOf returns the different values that an attribute of spans has.
func wordsOf(spans []*tracepb.Span, key string) string {
	var words []string
	for _, s := range spans {
		if word := attribute(s.GetAttributes(), key); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, "+")
}

func loggedOutcomes(log string) (words []string) {
	for _, m := range loggedOutcome.FindAllStringSubmatch(log, -1) {
		if !slices.Contains(words, m[1]) {
			words = append(words, m[1])
		}
	}
	return words
}
