package e2e

import (
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestOneBound checks that one number bounds requests in both layouts, on both faces:
// what a bridge takes, its server takes.
func TestOneBound(t *testing.T) {
	u := e2etest.NewUpstream(t, e2etest.Text(e2etest.Body("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")))
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			for _, in := range []struct {
				name, max, body string
			}{
				{"34 MiB", "64MiB", `{"prompt":"` + strings.Repeat("x", 34<<20) + `"}`},
				{"five times as large in protobuf", "64KiB",
					`{"messages":[{"role":"user","content":"Hi","extra":{"a":[0` + strings.Repeat(",0", 16_000) + `]}}]}`},
			} {
				p := e2etest.Start(t, layout, u.Env(), "--model=m", "--max-body="+in.max)
				resp := p.Post(t, in.body)
				got, err := e2etest.Messages(resp.Body)
				if err != nil || resp.StatusCode != 200 || got[len(got)-1].Event != "finished" {
					t.Errorf("%s: got %s, %v, %v", in.name, resp.Status, got, err)
				}
			}
		})
	}
}

// TestBoundOfServer checks the refusal of what a bridge takes that was told another
// number than its server: by the server, and by grpc-go where it is far too large.
func TestBoundOfServer(t *testing.T) {
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	p.GRPC = e2etest.StartOne(t, p, nil, "server", "--grpc=127.0.0.1:0", "--max-body=64KiB")[0]
	p.HTTP = e2etest.StartOne(t, p, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.GRPC, "--max-body=64MiB")[0]
	for _, n := range []int{1 << 20, 34 << 20} {
		long := strings.Repeat("x", n)
		for _, accept := range []string{"text/event-stream", "application/json"} {
			a := refusalOf(t, p, "POST", `{"prompt":"`+long+`"}`, []string{"Accept", accept})
			if a.code != 413 {
				t.Errorf("%d bytes: got %d, want 413", n, a.code)
			}
			checkInvalid(t, a.status, []string{"larger"}, []string{"body"})
		}
		if n > 32<<20 {
			continue
		}
		for _, face := range facesOver(false) {
			a, err := face.ask(t.Context(), p, `{"prompt":"`+long+`"}`)
			if err != nil {
				t.Fatal(err)
			}
			checkInvalid(t, a.status, []string{"at most 589824 bytes"}, []string{"body"})
		}
	}
}
