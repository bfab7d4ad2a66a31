package e2e

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/metadata"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// A caller's trace, which another service has begun.
const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	callerSpan  = "b7ad6b7169203331"
	callerState = "vendor=opaque"
)

// tracedUpstream is one that notes the trace context which it gets, and says n words.
type tracedUpstream struct {
	*e2etest.Upstream

	mu     sync.Mutex // guards all below
	parent []string
	state  []string
}

// got returns the trace context of one of the requests.
func (u *tracedUpstream) got(n int) (parent, state string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.parent[n], u.state[n]
}

func newTracedUpstream(t *testing.T, words int) *tracedUpstream {
	t.Helper()
	u := &tracedUpstream{}
	u.Upstream = e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.parent, u.state = append(u.parent, r.Header.Get("Traceparent")), append(u.state, r.Header.Get("Tracestate"))
		u.mu.Unlock()
		for range words {
			e2etest.Say(w, "word ")
		}
		e2etest.Chunk(w, `{}`, "stop")
	})
	return u
}

// TestTraceIsOneTree checks that the spans of a request over HTTP, of its gRPC call and of
// the upstream's request are below each other, and below the caller's, in both layouts,
// over both faces. However many tokens come, there are no more of them, and none has
// events: nothing is traced for a token.
func TestTraceIsOneTree(t *testing.T) {
	for _, layout := range layouts {
		for _, over := range []string{"HTTP", "gRPC"} {
			t.Run(layout+"/"+over, func(t *testing.T) {
				u := newTracedUpstream(t, 200)
				env := u.Env()
				c := collect(t, env)
				p := e2etest.Start(t, layout, env, "--log-level=debug")
				callTraced(t, p, over, "01")
				<-p.Stop()
				checkTraceOfLines(t, p, over, true)

				servers, clients := c.of(tracepb.Span_SPAN_KIND_SERVER, ""), c.of(tracepb.Span_SPAN_KIND_CLIENT, "")
				parent := callerSpan
				for _, key := range []string{"http.route", "rpc.method"} {
					if key == "http.route" && over == "gRPC" {
						continue
					}
					spans := c.of(tracepb.Span_SPAN_KIND_SERVER, key)
					if len(spans) != 1 {
						t.Fatalf("there are %d spans with %s: %v", len(spans), key, servers)
					}
					parent = below(t, spans[0], parent)
				}
				if len(clients) != 1 {
					t.Fatalf("there are %d spans of requests to the upstream: %v", len(clients), clients)
				}
				parent = below(t, clients[0], parent)
				gotParent, state := u.got(0)
				if want := "00-" + callerTrace + "-" + parent + "-01"; gotParent != want || state != callerState {
					t.Errorf("the upstream got %s and %s, want %s and %s", gotParent, state, want, callerState)
				}
				if want := map[string]int{"HTTP": 2, "gRPC": 1}[over]; len(servers) != want {
					t.Errorf("there are %d spans of servers, want %d: %v", len(servers), want, servers)
				}
			})
		}
	}
}

// below checks that a span is below another one, and returns its id.
func below(t *testing.T, s *tracepb.Span, parent string) string {
	t.Helper()
	if hexID(s.GetTraceId()) != callerTrace || hexID(s.GetParentSpanId()) != parent {
		t.Errorf("%s is of trace %x and below %x, want %s and %s", s.GetName(), s.GetTraceId(), s.GetParentSpanId(), callerTrace, parent)
	}
	if n := len(s.GetEvents()); n > 0 {
		t.Errorf("%s has %d events", s.GetName(), n)
	}
	if took := time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()); took <= 0 || took > time.Minute {
		t.Errorf("%s takes %v", s.GetName(), took)
	}
	return hexID(s.GetSpanId())
}

// callTraced asks for a completion in the caller's trace, which is sampled or not, and
// reads all of it.
func callTraced(t *testing.T, p *e2etest.Program, over, flags string) {
	t.Helper()
	traceparent := "00-" + callerTrace + "-" + callerSpan + "-" + flags
	if over == "HTTP" {
		resp := p.Post(t, e2etest.Question, "Traceparent", traceparent, "Tracestate", callerState)
		if word := lastWord(resp); word != "finished" {
			t.Fatalf("it ended %s", word)
		}
		return
	}
	ctx := metadata.AppendToOutgoingContext(e2etest.ShortContext(t), "traceparent", traceparent, "tracestate", callerState)
	model, content := "m", e2etest.Asked
	_, err := p.Client(t).CreateCompletion(ctx, &completionv1.CompletionRequest{Model: model, Messages: []*completionv1.Message{{Role: "user", Content: &content}}})
	if err != nil {
		t.Fatal(err)
	}
}

// checkTraceOfLines checks that the lines of the log that belong to a trace which is sampled
// have its id.
func checkTraceOfLines(t *testing.T, p *e2etest.Program, over string, sampled bool) {
	t.Helper()
	for _, msg := range []string{"completion", "call", "request"} {
		if msg == "request" && over == "gRPC" {
			continue
		}
		lines := regexp.MustCompile(` msg=`+msg+` .*`).FindAllString(p.Log.String(), -1)
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "grpc.health.") })
		if len(lines) != 1 || strings.HasSuffix(lines[0], " trace_id="+callerTrace) != sampled {
			t.Errorf("sampled: %v; lines of the log: %q", sampled, lines)
		}
	}
}

var traceContext = regexp.MustCompile(`^00-` + callerTrace + `-([0-9a-f]{16})-0[0-3]$`)

// TestUnsampledTraceIsNotExported checks that the caller's decision not to sample is
// honoured, and goes on to the upstream.
func TestUnsampledTraceIsNotExported(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := newTracedUpstream(t, 3)
			env := u.Env()
			c := collect(t, env)
			p := e2etest.Start(t, layout, env, "--log-level=debug")
			callTraced(t, p, "HTTP", "00")
			<-p.Stop()
			checkTraceOfLines(t, p, "HTTP", false)
			if spans := append(c.of(tracepb.Span_SPAN_KIND_SERVER, ""), c.of(tracepb.Span_SPAN_KIND_CLIENT, "")...); len(spans) > 0 {
				t.Errorf("exported: %v", spans)
			}
			if got, _ := u.got(0); !traceContext.MatchString(got) || !strings.HasSuffix(got, "-00") {
				t.Errorf("the upstream got %s", got)
			}
			if len(c.labels("sluice.completions", "outcome")) != 1 {
				t.Error("nor are the metrics")
			}
		})
	}
}

// TestTraceGoesThroughWithoutExporter checks that a trace which others keep is not broken
// where none is exported.
func TestTraceGoesThroughWithoutExporter(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := newTracedUpstream(t, 3)
			p := e2etest.Start(t, layout, u.Env())
			callTraced(t, p, "HTTP", "01")
			parent, state := u.got(0)
			if want := "00-" + callerTrace + "-" + callerSpan + "-01"; parent != want || state != callerState {
				t.Errorf("the upstream got %s and %s, want %s", parent, state, want)
			}
			// Nothing is made up where there is no trace.
			word := lastWord(p.Post(t, e2etest.Question))
			if parent, _ := u.got(1); word != "finished" || parent != "" {
				t.Errorf("%s; the upstream got %q", word, parent)
			}
		})
	}
}
