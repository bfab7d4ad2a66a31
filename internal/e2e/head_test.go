package e2e

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestHead checks that HEAD is answered as GET is, without the body, over each version
// of HTTP (RFC 9110 section 9.3.2).
func TestHead(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, nil, "--echo-interval=0s", "--cors-origin=https://pages.test")
			id, last := finishedCompletion(t, p)
			events := "/v1/completions/" + id + "/events"
			for version, client := range map[string]*http.Client{"HTTP/1.1": http1(t), "HTTP/2": http2(t)} {
				for _, tt := range []struct {
					path   string
					header []string
					code   int
				}{
					{"/", nil, 200}, {"/page.js", nil, 200}, {"/client.js", nil, 200}, {"/openapi.json", nil, 200},
					{"/healthz", nil, 200}, {"/readyz", nil, 200}, {"/v1/models", nil, 200},
					{"/v1/models", []string{"Origin", "https://pages.test"}, 200},
					{"/v1/completions/" + id, nil, 200}, {"/v1/completions/cmpl_x", nil, 404},
					{"/v1/completions", nil, 405}, {"/v1/completions:cancel", nil, 405}, {"/nowhere", nil, 404}, {"/nowhere/events", nil, 404},
					{events, nil, 200}, {events + "?after_sequence=1", nil, 200}, {events, []string{"Last-Event-ID", id + "_1"}, 200},
					{events, []string{"Last-Event-ID", last}, 204}, {events + "?last_event_id=" + last, nil, 204},
					{events, []string{"Last-Event-ID", id + "_99"}, 409}, {events, []string{"Last-Event-ID", "x"}, 400},
					{events, []string{"Last-Event-ID", "cmpl_y_1"}, 400}, {events, []string{"Accept", "application/json"}, 406},
					{"/v1/completions/cmpl_x/events", nil, 404}, {"/v1/completions/cmpl_x/events", []string{"Host", "evil.example"}, 403},
				} {
					get, head := ask(t, client, "GET", p.HTTP+tt.path, tt.header), ask(t, client, "HEAD", p.HTTP+tt.path, tt.header)
					if get.code != tt.code || head.code != tt.code || head.body != "" || !slices.Equal(head.header, get.header) {
						t.Errorf("%s %s %q:\nGET  %d %q\nHEAD %d %q, %q", version, tt.path, tt.header, get.code, get.header, head.code, head.header, head.body)
					}
				}
			}
		})
	}
}

// TestHeadIsNoReader checks that a HEAD for the events of what runs returns at once, and
// that its going is no reader's.
func TestHeadIsNoReader(t *testing.T) {
	p := e2etest.Start(t, "one process", nil, "--echo-interval=1h", "--drain-timeout=1ms")
	resp := p.Post(t, `{"prompt":"One two"}`)
	events := resp.Header.Get("Location") + "/events"
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // less than the commit window
	defer cancel()
	for range 3 {
		if head := p.Send(ctx, t, "HEAD", events, "", "Last-Event-ID", strings.Split(events, "/")[3]+"_2"); head.StatusCode != 200 || head.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %s %v", head.Status, head.Header)
		}
	}
	if _, body := fetch(t, p, "GET", resp.Header.Get("Location")); !strings.Contains(body, "RUNNING") {
		t.Errorf("it is %s", body)
	}
}

// finishedCompletion returns the id of a completion that has ended, and that of its last
// event.
func finishedCompletion(t *testing.T, p *e2etest.Program) (id, last string) {
	t.Helper()
	resp := p.Post(t, `{"prompt":"One two three."}`)
	all, err := e2etest.Messages(resp.Body)
	if err != nil || len(all) == 0 {
		t.Fatalf("got %v, %v", all, err)
	}
	return strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/"), all[len(all)-1].ID
}

func http1(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func http2(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true, Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// response is what a server answered.
type response struct {
	code   int
	header []string // in order, but for those that differ each time
	body   string
}

func ask(t *testing.T, client *http.Client, method, url string, header []string) (r response) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.code, r.body = resp.StatusCode, string(body)
	for name, values := range resp.Header {
		if name != "Date" && name != "X-Request-Id" {
			r.header = append(r.header, name+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(r.header)
	return r
}
