package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

var (
	adminLine = regexp.MustCompile(`http://[\d.]+:\d+/metrics`)
	buckets   = regexp.MustCompile(`(?m)^\w+_bucket\{.*\n`)
)

// startWatched runs the program with metrics, and returns where they are, of each of its
// processes: the bridge is the last one.
func startWatched(t *testing.T, layout string, env map[string]string, args ...string) (p *e2etest.Program, metrics []string) {
	t.Helper()
	p = e2etest.Start(t, layout, env, append([]string{"--admin=:0"}, args...)...)
	e2etest.Eventually(t, "the lines of --admin", func() bool {
		metrics = adminLine.FindAllString(p.Printed.String(), -1)
		return len(metrics) == p.Processes()
	})
	return p, metrics
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return string(b)
}

// TestMetrics has completions end, be resumed, be refused and be retried, and checks that
// all of it is counted, under names that Prometheus's linter approves of.
func TestMetrics(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			var refused atomic.Bool
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if refused.CompareAndSwap(false, true) {
					e2etest.Refuse(503, "overloaded", "Retry-After", "1")(w, r)
					return
				}
				e2etest.Say(w, "a")
				e2etest.Say(w, "b")
				time.Sleep(20 * time.Millisecond) // so that time per token is not zero
				_, _ = io.WriteString(w, `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}`+"\n\n")
				e2etest.Chunk(w, `{}`, "stop")
			})
			p, metrics := startWatched(t, layout, u.Env(), "--max-messages=3")
			resp := p.Post(t, e2etest.Question)
			if word := lastWord(resp); word != "finished" {
				t.Fatal(word)
			}
			lastWord(p.Send(t.Context(), t, "GET", resp.Header.Get("Location")+"/events", ""))
			many := strings.Repeat(`{"role":"user","content":"x"},`, 4)
			p.Post(t, `{"messages":[`+strings.TrimSuffix(many, ",")+`]}`)
			for i := range 20 { // a caller can make up names
				lastWord(p.Post(t, strings.Replace(e2etest.Question, `"m"`, fmt.Sprintf(`"made-up-%d"`, i), 1)))
			}
			face := "http"
			if layout != "one process" {
				face = "grpc"
			}
			got := awaitMetrics(t, metrics[0], []string{
				`sluice_completions_total\{gen_ai_request_model="m",outcome="finished"\} 1`,
				`sluice_completions_total\{gen_ai_request_model="other",outcome="finished"\} 20`,
				`sluice_completions_total\{gen_ai_request_model="other",outcome="owner_lost"\} 0`,
				`sluice_completions_running 0`,
				`sluice_readers 0`,
				`sluice_streams\{protocol="grpc"\} 0`,
				`sluice_resumes_total 1`,
				`sluice_upstream_retries_total\{reason="upstream_unavailable"\} 1`,
				`sluice_refusals_total\{limit="max_messages",protocol="` + face + `",reason="invalid_request"\} 1`,
				`sluice_journal_bytes [1-9]`,
				`sluice_build_info\{goversion="go[^"]*",version="[^"]+"\} 1`,
				`gen_ai_server_request_duration_seconds_count\{[^}]*gen_ai_request_model="m"[^}]*\} 1`,
				`gen_ai_server_time_to_first_token_seconds_count\{[^}]*gen_ai_request_model="m"[^}]*\} 1`,
				`gen_ai_server_time_per_output_token_seconds_count\{[^}]*gen_ai_request_model="m"[^}]*\} 1`,
				`gen_ai_client_token_usage_sum\{[^}]*gen_ai_request_model="m"[^}]*gen_ai_token_type="input"[^}]*\} 5`,
				`gen_ai_client_token_usage_sum\{[^}]*gen_ai_request_model="m"[^}]*gen_ai_token_type="output"[^}]*\} 2`,
			})
			got += awaitMetrics(t, metrics[len(metrics)-1], []string{
				`sluice_streams\{protocol="http"\} 0`,
				`sluice_refusals_total\{limit="max_messages",protocol="http",reason="invalid_request"\} 1`,
				`http_server_request_duration_seconds_count\{http_request_method="POST",http_response_status_code="200",http_route="/v1/completions",url_scheme="http"\} 21`,
				`http_server_request_duration_seconds_count\{http_request_method="GET",http_response_status_code="200",http_route="/v1/completions/\{id\}/events",url_scheme="http"\} 1`,
			})
			if strings.Contains(got, "made-up") {
				t.Error("a name that a caller has made up is a label")
			}
			checkNamedMetrics(t, got)
			for _, url := range metrics {
				lint(t, scrape(t, url))
			}
			if t.Failed() {
				t.Log(buckets.ReplaceAllString(got, ""))
			}
		})
	}
}

// awaitMetrics waits until there are metrics: what ended is counted soon after its reader
// knows. It returns all there are.
func awaitMetrics(t *testing.T, url string, wanted []string) (got string) {
	t.Helper()
	for _, want := range wanted {
		pattern := regexp.MustCompile(`(?m)^` + want)
		deadline := time.Now().Add(5 * time.Second)
		for got = scrape(t, url); !pattern.MatchString(got); got = scrape(t, url) {
			if time.Now().After(deadline) {
				t.Errorf("there is no %s", want)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return got
}

// lint checks metrics as promtool does.
func lint(t *testing.T, metrics string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}
