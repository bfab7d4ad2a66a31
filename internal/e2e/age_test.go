package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestConnectionAge has connections grow old all the time: no stream is cut, no call
// fails, and clients make new ones.
func TestConnectionAge(t *testing.T) {
	t.Parallel() // it waits for most of its time
	end := make(chan struct{})
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if e2etest.ModelOf(r) == "short" {
			e2etest.Chunk(w, `{"content":"some text"}`, "stop")
			return
		}
		e2etest.Say(w, "some ")
		select {
		case <-end:
			e2etest.Chunk(w, `{"content":"text"}`, "stop")
		case <-r.Context().Done():
		}
	})
	p := e2etest.Start(t, "two processes", u.Env(), "--max-connection-age=200ms")
	var dialled atomic.Int64
	counting := e2etest.NewCuttingProxy(t, p.GRPC, func(int) *e2etest.Cut { dialled.Add(1); return nil })
	conn, err := grpc.NewClient(counting.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := completionv1.NewCompletionServiceClient(conn)
	long, err := client.StreamCompletion(t.Context(), &completionv1.CompletionRequest{Model: "long", Messages: []*completionv1.Message{{Role: "user", Content: new("Hi")}}})
	if err != nil {
		t.Fatal(err)
	}
	overHTTP := p.Post(t, e2etest.Question)
	short := strings.Replace(e2etest.Question, `"m"`, `"short"`, 1)
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		if a, err := faces[0].ask(t.Context(), p, short); err != nil || a.status != nil || a.text != "some text" {
			t.Fatalf("over HTTP: %v, %v", a, err)
		}
		if _, err := client.CreateCompletion(t.Context(), &completionv1.CompletionRequest{Model: "short", Messages: []*completionv1.Message{{Role: "user", Content: new("Hi")}}}); err != nil {
			t.Fatalf("over gRPC: %v", err)
		}
	}
	close(end)
	if got, err := e2etest.Messages(overHTTP.Body); err != nil || got[len(got)-1].Event != "finished" {
		t.Errorf("the stream over HTTP: %v, %v", got, err)
	}
	for {
		event, err := long.Recv()
		if err != nil {
			t.Fatalf("the stream over gRPC: %v", err)
		}
		if event.GetFinished() != nil {
			break
		}
	}
	if n := dialled.Load(); n < 3 {
		t.Errorf("the client has made %d connections", n)
	}
}
