package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// TestGrpcurl checks that grpcurl needs no proto file, and gets the events that
// the HTTP face gives.
func TestGrpcurl(t *testing.T) {
	grpcurl, err := exec.LookPath("grpcurl")
	if err != nil {
		skip.For(t, "there is no grpcurl in PATH, so nothing shows that it needs no proto file (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest)")
	}
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, nil, "--echo-interval=1ms")
			curl := func(args ...string) string {
				t.Helper()
				out, err := exec.CommandContext(t.Context(), grpcurl, append([]string{"-plaintext"}, args...)...).CombinedOutput()
				if err != nil {
					t.Fatalf("grpcurl %v: %v\n%s", args, err, out)
				}
				return string(out)
			}
			for _, service := range []string{"completion.v1.CompletionService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} {
				if list := curl(p.GRPC, "list"); !strings.Contains(list, service+"\n") {
					t.Errorf("no %s in %s", service, list)
				}
			}
			described := curl(p.GRPC, "describe", "completion.v1.CompletionService")
			for _, method := range []string{
				"rpc StreamCompletion ( .completion.v1.CompletionRequest ) returns ( stream .completion.v1.CompletionEvent );",
				"rpc ResumeCompletion ( .completion.v1.ResumeCompletionRequest ) returns ( stream .completion.v1.CompletionEvent );",
				"rpc CreateCompletion ( .completion.v1.CompletionRequest ) returns ( .completion.v1.Completion );",
				"rpc GetCompletion ", "rpc CancelCompletion ", "rpc ListModels ",
			} {
				if !strings.Contains(described, method) {
					t.Errorf("no %s in %s", method, described)
				}
			}
			if event := curl(p.GRPC, "describe", "completion.v1.CompletionEvent"); !strings.Contains(event, "oneof event {") {
				t.Errorf("no oneof in %s", event)
			}
			if health := curl(p.GRPC, "grpc.health.v1.Health/Check"); !strings.Contains(health, "SERVING") {
				t.Errorf("the health is %s", health)
			}

			const request = `{"prompt":"One two\nthree \u2028 </script> four."}`
			got := decodeEvents(t, curl("-d", request, p.GRPC, "completion.v1.CompletionService/StreamCompletion"))
			a, err := askSSE(t.Context(), p, request)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(a.events) || len(got) < 5 {
				t.Fatalf("got %d events, and %d over SSE", len(got), len(a.events))
			}
			for i := range got {
				if !proto.Equal(anonymous(got[i]), anonymous(a.events[i])) {
					t.Errorf("got %v, and over SSE %v", got[i], a.events[i])
				}
			}
		})
	}
}

// decodeEvents reads the messages that grpcurl prints.
func decodeEvents(t *testing.T, printed string) []*completionv1.CompletionEvent {
	t.Helper()
	var events []*completionv1.CompletionEvent
	d := json.NewDecoder(bytes.NewReader([]byte(printed)))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return events
		}
		event := &completionv1.CompletionEvent{}
		if err == nil {
			err = protojson.Unmarshal(raw, event)
		}
		if err != nil {
			t.Fatalf("%v in %s", err, printed)
		}
		events = append(events, event)
	}
}

// anonymous is an event without what is a completion's own.
func anonymous(event *completionv1.CompletionEvent) *completionv1.CompletionEvent {
	event = proto.CloneOf(event)
	if created := event.GetCreated(); created != nil {
		created.Id, created.CreateTime = "", nil
	}
	return event
}
