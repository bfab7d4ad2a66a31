package bridge

import (
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// What only reads, or stops, may be sent again by itself to a server that cannot be reached, as
// one that is started again; what begins a completion may not: nobody knows whether it did.
func TestUnreachableForOpenAI(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	b, err := New(conn, Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"GET /openai/v1/models":                             "true",
		"GET /openai/v1/responses/resp_x":                   "true",
		"GET /openai/v1/responses/resp_x?stream=true":       "true",
		"POST /openai/v1/responses/resp_x/cancel":           "true",
		`POST /openai/v1/responses {"input":"a"}`:           "false",
		`POST /v1/responses {"input":"a","stream":true}`:    "false",
		`POST /openai/v1/completions {"prompt":"a"}`:        "false",
		"GET /openai/v1/nothing":                            "false",
		"GET /openai/v1/responses/resp_x?starting_after=-1": "false",
	} {
		part := append(strings.SplitN(request, " ", 3), "")
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(part[0], part[1], strings.NewReader(part[2])))
		if got := w.Header().Get("X-Should-Retry"); got != want || w.Code < 400 {
			t.Errorf("%s: got %s, %d %s", request, got, w.Code, w.Body)
		}
	}
}
